//! The listening socket, which can go away and come back on the same port, and the tasks of the connections it
//! accepted.

use std::future::{pending, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use crate::serve::serve;
use crate::state::Shared;

const BACKLOG: u32 = 1024;
/// Bytes of a segment, as Ethernet has them. By itself the loopback interface takes 64 KiB: then a connection that was
/// throttled by a small receive buffer goes on at a window a delayed acknowledgement for ever, three times in ten.
const SEGMENT: u32 = 1448;

#[derive(Debug)]
enum Socket {
    Listening(TcpListener),
    /// Bound, so that nobody else gets the port, but not listening: the kernel refuses connections.
    Bound(TcpSocket),
    /// Neither: the last attempt to get the port back failed.
    Lost,
}

#[derive(Debug)]
struct State {
    socket: Socket,
    reopen_at: Option<Instant>,
    /// Down for good: faults that come or go do not bring it up.
    stopped: bool,
}

/// The socket. Opening and closing it is done when the call returns.
#[derive(Debug)]
pub(crate) struct Listener {
    port: u16,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

impl Listener {
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let listener = bound(port)?.listen(BACKLOG)?;
        let port = listener.local_addr()?.port();
        let state = State { socket: Socket::Listening(listener), reopen_at: None, stopped: false };
        Ok(Self { port, state: Mutex::new(state), changed: watch::Sender::new(()) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections are refused until [`start`](Self::start).
    pub(crate) fn stop(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.stopped = true;
        self.close(&mut state, None)
    }

    pub(crate) fn start(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.stopped = false;
        self.open(&mut state)
    }

    /// Connections are refused, for a time or until [`relent`](Self::relent). Those that are open go on.
    pub(crate) fn refuse(&self, time: Option<Duration>) -> io::Result<()> {
        let mut state = self.lock();
        if state.stopped { Ok(()) } else { self.close(&mut state, time) }
    }

    pub(crate) fn relent(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.stopped { Ok(()) } else { self.open(&mut state) }
    }

    fn open(&self, state: &mut State) -> io::Result<()> {
        state.reopen_at = None;
        state.socket = match std::mem::replace(&mut state.socket, Socket::Lost) {
            Socket::Listening(listener) => Socket::Listening(listener),
            Socket::Bound(socket) => Socket::Listening(socket.listen(BACKLOG)?),
            Socket::Lost => Socket::Listening(bound(self.port)?.listen(BACKLOG)?),
        };
        self.changed.send_replace(());
        Ok(())
    }

    fn close(&self, state: &mut State, reopen_after: Option<Duration>) -> io::Result<()> {
        state.reopen_at = reopen_after.map(|after| Instant::now() + after);
        if !matches!(state.socket, Socket::Bound(_)) {
            // The listening socket has to go before another can be bound.
            state.socket = Socket::Lost;
            state.socket = Socket::Bound(bound(self.port)?);
        }
        self.changed.send_replace(());
        Ok(())
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let accepted = poll_fn(|context| match &self.lock().socket {
            Socket::Listening(listener) => listener.poll_accept(context),
            _ => Poll::Pending,
        });
        accepted.await.map(|(tcp, _)| tcp)
    }

    async fn time_to_relent(&self) {
        let at = self.lock().reopen_at;
        match at {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }
}

/// Accepts connections and serves them. Who sends to `kills` ends all connections at once, as a killed process would.
pub(crate) async fn run(shared: Arc<Shared>, tls: Option<TlsAcceptor>, mut kills: mpsc::Receiver<oneshot::Sender<()>>) {
    let mut connections = JoinSet::new();
    let mut changed = shared.listener.changed.subscribe();
    loop {
        select! {
            // A connection that fails before it is accepted is the client's affair.
            accepted = shared.listener.accept() => if let Ok(tcp) = accepted {
                connections.spawn(serve(Arc::clone(&shared), tcp, tls.clone()));
            },
            () = shared.listener.time_to_relent() => {
                shared.listener.relent().ok();
            }
            changed = changed.changed() => if changed.is_err() { return },
            kill = kills.recv() => {
                let Some(done) = kill else { return };
                connections.shutdown().await;
                // Who ordered it may not wait for it.
                done.send(()).ok();
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
