//! A client that tries again and again.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::{Result, cluster::PATIENCE};

/// From the beginning of one try to that of the next.
const PACE: Duration = Duration::from_millis(1);

/// How long connecting may take, and an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long connecting may take where nothing may be listening yet: what drops packets is soon asked
/// again.
const SOON: Duration = Duration::from_millis(50);

/// What came of the tries.
#[derive(Debug)]
pub(crate) struct Answered {
    /// When the answer came.
    pub(crate) at: Instant,
    /// Why tries failed before.
    pub(crate) failures: Vec<String>,
}

/// Asks on new connections until the answer fits.
pub(crate) fn tcp(to: SocketAddr, fits: impl Fn(&str) -> bool) -> Result<Answered> {
    until(to, fits, || ask_tcp(to, ANSWER_WITHIN))
}

/// Asks on new connections until a port that may not be open yet gives the answer.
pub(crate) fn opened(to: SocketAddr, answer: &str) -> Result<Answered> {
    until(to, |text| text == answer, || ask_tcp(to, SOON))
}

/// Asks by new UDP flows until the answer fits.
pub(crate) fn udp(to: SocketAddr, fits: impl Fn(&str) -> bool) -> Result<Answered> {
    until(to, fits, || ask_udp(to))
}

fn until(
    to: SocketAddr,
    fits: impl Fn(&str) -> bool,
    ask: impl Fn() -> io::Result<String>,
) -> Result<Answered> {
    let deadline = Instant::now() + PATIENCE;
    let mut failures = Vec::new();
    loop {
        let began = Instant::now();
        let instead = match ask() {
            Ok(answer) if fits(&answer) => return Ok(Answered { at: Instant::now(), failures }),
            Ok(answer) => format!("{answer:?}"),
            Err(error) => {
                failures.push(error.to_string());
                error.to_string()
            }
        };
        if began > deadline {
            return Err(format!("{to} doesn't answer as it should; the last try gave: {instead}"));
        }
        thread::sleep(PACE.saturating_sub(began.elapsed()));
    }
}

/// Asks until the port is closed.
pub(crate) fn closed(to: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect_timeout(&to, SOON).is_ok() {
        if Instant::now() > deadline {
            return Err(format!("{to} still takes connections"));
        }
        thread::sleep(PACE);
    }
    Ok(())
}

fn ask_tcp(to: SocketAddr, within: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, within)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(b"who\n")?;
    let mut buffer = [0; 256];
    match stream.read(&mut buffer)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        length => Ok(text(&buffer[..length])),
    }
}

fn ask_udp(to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.send(b"who\n")?;
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer)?;
    Ok(text(&buffer[..length]))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}
