//! What is behind the gateway: one thread that does what requests say.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    select,
    sync::oneshot,
};

use crate::{
    Result,
    network::{BACKENDS, Network},
    request::{CHUNK, Request, SIZE},
};

const PORT: u16 = 7000;

/// A TCP server, which ends when it is dropped.
pub(crate) struct Backend {
    uploaded: Arc<AtomicU64>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Backend {
    /// Serves among the network's backends.
    pub(crate) fn start(network: &Network) -> Result<Self> {
        let (runtime, listener) = network
            .backends
            .run(listen)?
            .map_err(|error| format!("the backend can't listen: {error}"))?;
        let uploaded = Arc::<AtomicU64>::default();
        let count = uploaded.clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                select! {
                    () = accept(listener, count) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { uploaded, running: Some((stop, thread)) })
    }

    /// How many bytes clients have uploaded.
    pub(crate) fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// A socket stays in the namespace it was made in, whoever uses it.
fn listen() -> io::Result<(Runtime, TcpListener)> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let listener = runtime.block_on(TcpListener::bind((BACKENDS, PORT)))?;
    Ok((runtime, listener))
}

async fn accept(listener: TcpListener, uploaded: Arc<AtomicU64>) {
    loop {
        // A connection that failed before it was accepted is the client's to count.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let uploaded = uploaded.clone();
        tokio::spawn(async move {
            // How a session ends is the client's to judge.
            let _ = serve(stream, &uploaded).await;
        });
    }
}

async fn serve(mut stream: TcpStream, uploaded: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut request = [0; SIZE];
        stream.read_exact(&mut request).await?;
        match Request::decode(&request) {
            Some(Request::Echo) => stream.write_all(&request).await?,
            Some(Request::Download) => send(&mut stream).await?,
            Some(Request::Upload) => return receive(&mut stream, uploaded).await,
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

async fn send(stream: &mut TcpStream) -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    loop {
        stream.write_all(&chunk).await?;
    }
}

async fn receive(stream: &mut TcpStream, uploaded: &AtomicU64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            length => uploaded.fetch_add(length as u64, Ordering::Relaxed),
        };
    }
}
