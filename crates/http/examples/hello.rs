//! Begins a TLS connection as rustls does, for `make hellos`: hello PORT NAME PROTOCOL...

use std::{env, io::Write, net::TcpStream, sync::Arc};

use rustls::{ClientConfig, ClientConnection, RootCertStore};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(port), Some(name)) = (arguments.next(), arguments.next()) else {
        return Err("usage: hello PORT NAME PROTOCOL...".into());
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = arguments.map(String::into_bytes).collect();
    let connection = ClientConnection::new(config.into(), name.try_into()?)?;
    let socket = TcpStream::connect(("127.0.0.1", port.parse()?))?;
    // The handshake fails: nobody answers.
    Ok(rustls::StreamOwned::new(connection, socket).flush()?)
}
