//! Clients: real `nc`, and plain sockets.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use super::{PATIENCE, command::run};

/// How long a client waits for an answer before it asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ask {
    Answer(String),
    /// It was reset, or closed without an answer.
    Refused,
}

/// Runs `nc` with these arguments, `input` on its standard input, and returns what it prints.
pub(crate) fn nc(args: &[&str], input: &str) -> String {
    let output = run("nc", args, input);
    String::from_utf8(output.stdout).expect("text")
}

/// Connects, sends a line, finishes, and takes what comes back.
///
/// # Errors
/// If it can't connect.
pub(crate) fn ask(to: SocketAddr) -> io::Result<Ask> {
    let mut stream = match TcpStream::connect_timeout(&to, ANSWER_WITHIN) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Ask::Refused),
        connected => connected?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    let answered = stream
        .write_all(b"Hello TCP\n")
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.read_to_string(&mut answer));
    Ok(match answered {
        Ok(_) if !answer.is_empty() => Ask::Answer(answer),
        _ => Ask::Refused,
    })
}

/// Sends a datagram and takes the answer, from a port of its own and so as a session of its own.
///
/// # Errors
/// If there is none.
pub(crate) fn ask_udp(to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.send(b"Hello UDP\n")?;
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
