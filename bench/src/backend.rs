//! What is behind the gateway: one thread that does what requests say, over TCP and UDP.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::net::{
    RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with, recv, recvfrom, send, sendto,
    shutdown, sockopt,
};

use crate::{
    Result,
    network::{BACKENDS, FIRST_PORT, Network, PORT},
    poll::{Interest, Poll, Ready, unless_blocked},
    request::{CHUNK, Request, SIZE},
};

/// What the kernel keeps for a UDP socket: no datagram is lost here.
const RECEIVE_BUFFER: usize = 16 << 20;
/// How many datagrams are answered before others have their turn.
const TURN: usize = 64;

/// A server, which ends when it is dropped.
pub(crate) struct Backend {
    uploaded: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// Shut down, it wakes the thread.
    waker: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Serves among the network's backends.
    pub(crate) fn start(network: &Network) -> Result<Self> {
        let start = || -> io::Result<Self> {
            let (uploaded, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
            let mut server = Server::new(uploaded.clone(), stop.clone())?;
            let waker = server.listeners[0].0.try_clone()?;
            let thread = thread::Builder::new().name("backend".to_owned());
            let thread = thread.spawn(move || server.run())?;
            Ok(Self { uploaded, stop, waker, thread: Some(thread) })
        };
        // A socket stays in the namespace it was made in, and so does the thread.
        network.backends.run(start)?.map_err(|error| format!("the backend can't serve: {error}"))
    }

    /// How many bytes clients have uploaded.
    pub(crate) fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = shutdown(&self.waker, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sockets have their descriptors as numbers.
struct Server {
    poll: Poll,
    /// With whether it speaks first.
    listeners: [(TcpListener, bool); 2],
    datagrams: [UdpSocket; 2],
    connections: Vec<Option<Connection>>,
    chunk: Vec<u8>,
    uploaded: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// A TCP session.
struct Connection {
    socket: OwnedFd,
    /// What is done without end, once it was asked for.
    task: Request,
    /// The beginning of the next request.
    request: [u8; SIZE],
    filled: usize,
}

impl Server {
    fn new(uploaded: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let server = Self {
            poll: Poll::new()?,
            listeners: [(listen(PORT)?, false), (listen(FIRST_PORT)?, true)],
            datagrams: [bind(PORT)?, bind(FIRST_PORT)?],
            connections: Vec::new(),
            chunk: vec![0x5a; CHUNK],
            uploaded,
            stop,
        };
        for (listener, _) in &server.listeners {
            server.poll.add(listener, listener.as_raw_fd() as usize, Interest::Read)?;
        }
        for socket in &server.datagrams {
            server.poll.add(socket, socket.as_raw_fd() as usize, Interest::Read)?;
        }
        Ok(server)
    }

    fn run(&mut self) {
        let mut ready = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            if self.poll.wait(&mut ready, None).is_err() {
                return;
            }
            for event in &ready {
                self.serve(*event);
            }
        }
    }

    /// What fails is the client's to count.
    fn serve(&mut self, ready: Ready) {
        let is = |socket: &dyn AsRawFd| socket.as_raw_fd() as usize == ready.number;
        if let Some(Some(connection)) = self.connections.get_mut(ready.number) {
            let served = connection.serve(ready, &self.poll, &mut self.chunk, &self.uploaded);
            if served.is_err() {
                self.connections[ready.number] = None;
            }
        } else if let Some(socket) = self.datagrams.iter().find(|socket| is(*socket)) {
            let _ = answer(socket, &mut self.chunk);
        } else if let Some(at) = self.listeners.iter().position(|(listener, _)| is(listener)) {
            let _ = self.accept(at);
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        let (listener, speaks) = &self.listeners[listener];
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let Some(socket) = unless_blocked(accept_with(listener, flags))? else { return Ok(()) };
        if *speaks {
            send(&socket, &Request::Echo.encode(), SendFlags::NOSIGNAL)?;
        }
        let number = socket.as_raw_fd() as usize;
        self.poll.add(&socket, number, Interest::Read)?;
        if self.connections.len() <= number {
            self.connections.resize_with(number + 1, || None);
        }
        let connection = Connection { socket, task: Request::Echo, request: [0; SIZE], filled: 0 };
        self.connections[number] = Some(connection);
        Ok(())
    }
}

impl Connection {
    /// # Errors
    /// If the connection has ended.
    fn serve(
        &mut self,
        ready: Ready,
        poll: &Poll,
        chunk: &mut [u8],
        uploaded: &AtomicU64,
    ) -> io::Result<()> {
        if self.task == Request::Echo {
            return self.answer(poll);
        }
        if ready.read {
            let received = unless_blocked(recv(&self.socket, &mut chunk[..], RecvFlags::empty()))?;
            match received {
                Some((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some((length, _)) => {
                    uploaded.fetch_add(length as u64, Ordering::Relaxed);
                }
                None => {}
            }
        }
        if ready.write {
            unless_blocked(send(&self.socket, chunk, SendFlags::NOSIGNAL))?;
        }
        Ok(())
    }

    fn answer(&mut self, poll: &Poll) -> io::Result<()> {
        let rest = &mut self.request[self.filled..];
        let Some((length, _)) = unless_blocked(recv(&self.socket, rest, RecvFlags::empty()))?
        else {
            return Ok(());
        };
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += length;
        if self.filled < SIZE {
            return Ok(());
        }
        self.filled = 0;
        self.task = Request::decode(&self.request).ok_or(io::ErrorKind::InvalidData)?;
        let number = self.socket.as_raw_fd() as usize;
        match self.task {
            // There is always room for so little.
            Request::Echo => {
                send(&self.socket, &self.request, SendFlags::NOSIGNAL)?;
            }
            Request::Upload => {}
            // A client that sends no more may still close.
            Request::Download | Request::Both => {
                poll.modify(&self.socket, number, Interest::ReadWrite)?;
            }
        }
        Ok(())
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((BACKENDS, port))?;
    // As std's backlog is 128.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    // Connections inherit it.
    sockopt::set_tcp_nodelay(&listener, true)?;
    Ok(listener)
}

fn bind(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((BACKENDS, port))?;
    socket.set_nonblocking(true)?;
    sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
    sockopt::set_socket_send_buffer_size_force(&socket, RECEIVE_BUFFER)?;
    Ok(socket)
}

/// Sends datagrams back.
fn answer(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<()> {
    for _ in 0..TURN {
        let received = unless_blocked(recvfrom(socket, &mut *buffer, RecvFlags::empty()))?;
        let Some((length, _, Some(from))) = received else { break };
        let from = SocketAddr::try_from(from).map_err(io::Error::other)?;
        unless_blocked(sendto(socket, &buffer[..length], SendFlags::empty(), &from))?;
    }
    Ok(())
}
