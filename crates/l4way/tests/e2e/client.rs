//! Clients: real `nc`, and plain sockets.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

use super::l4way::PATIENCE;

/// Runs `nc` with these arguments, `input` on its standard input, and returns what it prints.
pub(crate) fn nc(args: &[&str], input: &str) -> String {
    let mut child = Command::new("nc")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nc is installed by `make setup`");
    // One that can't connect is gone before it has read anything.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("nc's output");
    String::from_utf8(output.stdout).expect("text")
}

/// Connects, with a limit on how long any read or write may take.
pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects, sends a line, finishes, and returns all that comes back.
pub(crate) fn ask(to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(to)?;
    stream.write_all(b"Hello TCP\n")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends `message` and expects it back.
pub(crate) fn echo(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(message)?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer)?;
    if answer == message {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the echo differs from what was sent"))
    }
}

/// A port of this address on which nobody listens.
pub(crate) fn unused(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0));
    listener.and_then(|listener| listener.local_addr()).expect("a free port")
}

/// A server that echoes every connection until the test ends; its address.
pub(crate) fn echo_server(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddrV4::new(address, 0)).expect("a free port");
    let bound = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut from) = stream else { break };
            let Ok(mut to) = from.try_clone() else { break };
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
    bound
}
