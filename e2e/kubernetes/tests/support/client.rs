//! Clients: real `nc`, and plain sockets.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use super::PATIENCE;

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
    let mut child = Command::new("nc")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nc is installed by `make e2e`");
    // One that can't connect is gone before it has read anything.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("nc's output");
    String::from_utf8(output.stdout).expect("text")
}

/// Connects, sends a line, finishes, and takes what comes back.
///
/// # Errors
/// If it can't connect.
pub(crate) fn ask(to: SocketAddr) -> io::Result<Ask> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER_WITHIN)?;
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
