//! One listening socket for an address, and the seats of the cameras that share it.
//!
//! Invariants: who has not shown a key has [`BEFORE_PUBLISH`] to do so, and at most [`STRANGERS`] are heard at a time: for
//! one more the oldest is cut off, so that those who only hold a connection keep no encoder out. A wrong key is answered
//! late. The socket is closed when the last seat is given up.
//!
//! Listeners are the process's, as ports are: hence the only global of the agent, a list of weak references.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use edgecam_media::rtmp::{Event, Refusal, RtmpError, Session};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::publisher::{Publisher, exchange, flush};
use crate::capture::CaptureError;
use crate::config::secret::Secret;
use crate::config::source::Rtmp;
use crate::run::stage::Stage;

/// From the connection to `publish`.
const BEFORE_PUBLISH: Duration = Duration::from_secs(10);
/// Connections that have not published yet.
const STRANGERS: usize = 32;
/// Before a wrong key is answered.
const TARPIT: Duration = Duration::from_secs(1);
/// When no connection can be accepted: the process has too many open files.
const NO_ACCEPT: Duration = Duration::from_secs(1);

static LISTENERS: Mutex<BTreeMap<SocketAddr, Weak<Listener>>> = Mutex::new(BTreeMap::new());

/// What was refused at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Refusals {
    /// No camera has this key.
    wrong_key: u64,
    /// Another encoder publishes with it.
    busy: u64,
    /// No RTMP, or no word in time.
    strange: u64,
}

impl Refusals {
    /// For a person.
    pub(super) fn notes(self) -> Vec<String> {
        [
            (self.wrong_key, "with a wrong key"),
            (self.busy, "while another encoder published with the same key"),
            (self.strange, "without RTMP or without a key in time"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("refused at this address so far: {count} {what}"))
        .collect()
    }
}

/// A camera's place at a listener.
pub(super) struct Seat {
    listener: Arc<Listener>,
    id: u64,
    publishers: mpsc::Receiver<Publisher>,
}

/// What the listener knows of it.
struct Place {
    id: u64,
    app: String,
    key: Secret,
    /// One publisher at a time.
    vacancy: Arc<Semaphore>,
    hand_over: mpsc::Sender<Publisher>,
}

/// A listening socket.
pub(super) struct Listener {
    places: Mutex<Vec<Place>>,
    refusals: watch::Sender<Refusals>,
    /// Ends the task that accepts.
    _end: DropGuard,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Takes a seat; the first one at an address opens it.
    pub(super) async fn take(settings: &Rtmp) -> Result<Self, CaptureError> {
        let listener = match open(settings.listen) {
            Ok(listener) => listener,
            Err(error) => return Err(explain(settings.listen, &error)),
        };
        let (hand_over, publishers) = mpsc::channel(1);
        let id = fastrand::u64(..);
        let vacancy = Arc::new(Semaphore::new(1));
        let (app, key) = (settings.app.clone(), settings.key.clone());
        lock(&listener.places).push(Place { id, app, key, vacancy, hand_over });
        Ok(Self { listener, id, publishers })
    }

    /// The next one who publishes with the camera's key.
    pub(super) async fn publisher(&mut self) -> Publisher {
        match self.publishers.recv().await {
            Some(publisher) => publisher,
            // The listener's half is given up together with this one.
            None => std::future::pending().await,
        }
    }

    /// What was refused at this address.
    pub(super) fn refusals(&self) -> watch::Receiver<Refusals> {
        self.listener.refusals.subscribe()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.listener.places).retain(|place| place.id != self.id);
    }
}

/// The listener of an address; opened, if it is not.
fn open(address: SocketAddr) -> io::Result<Arc<Listener>> {
    let mut listeners = lock(&LISTENERS);
    listeners.retain(|_, listener| listener.strong_count() > 0);
    if let Some(listener) = listeners.get(&address).and_then(Weak::upgrade) {
        return Ok(listener);
    }
    let socket = bind(address)?;
    let end = CancellationToken::new();
    let listener = Arc::new(Listener {
        places: Mutex::default(),
        refusals: watch::Sender::default(),
        _end: end.clone().drop_guard(),
    });
    listeners.insert(address, Arc::downgrade(&listener));
    let (socket, weak, token) = (Arc::new(socket), Arc::downgrade(&listener), end.clone());
    let make = move || accept(socket.clone(), weak.clone(), token.clone());
    drop(Stage::spawn(format!("rtmp {address}"), end, make));
    Ok(listener)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

fn explain(address: SocketAddr, error: &io::Error) -> CaptureError {
    match error.kind() {
        io::ErrorKind::AddrInUse => CaptureError::Busy(format!(
            "{address} is in use by another program: stop that one, or choose another port in `url`"
        )),
        io::ErrorKind::PermissionDenied => {
            CaptureError::PermissionDenied(format!("{address}: ports below 1024 need privileges: choose another port"))
        }
        io::ErrorKind::AddrNotAvailable => CaptureError::NotFound(format!(
            "{} is no address of this machine: `ip address` lists them; 0.0.0.0 is all of them",
            address.ip()
        )),
        _ => CaptureError::Unreachable(format!("{address}: {error}")),
    }
}

/// Accepts connections until `cancel` is called.
async fn accept(socket: Arc<TcpListener>, listener: Weak<Listener>, cancel: CancellationToken) {
    let mut strangers = JoinSet::new();
    let mut order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            Some(_) = strangers.join_next() => {
                order.retain(|stranger| !stranger.is_finished());
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "no connection can be accepted");
                sleep(NO_ACCEPT).await;
                continue;
            }
        };
        if order.len() >= STRANGERS
            && let Some(oldest) = order.pop_front()
        {
            oldest.abort();
            count(&listener, |refusals| refusals.strange += 1);
        }
        order.push_back(strangers.spawn(meet(stream, peer, listener.clone())));
    }
}

fn count(listener: &Weak<Listener>, count: impl FnOnce(&mut Refusals)) {
    if let Some(listener) = listener.upgrade() {
        listener.refusals.send_modify(count);
    }
}

/// One connection, up to the camera that it is for.
async fn meet(stream: TcpStream, peer: SocketAddr, listener: Weak<Listener>) {
    let asked = timeout(BEFORE_PUBLISH, ask(stream)).await;
    let (mut stream, mut session, app, key) = match asked {
        Ok(Ok(asked)) => asked,
        Ok(Err(error)) => {
            debug!(%peer, %error, "a connection that does not publish");
            return count(&listener, |refusals| refusals.strange += 1);
        }
        Err(_) => return count(&listener, |refusals| refusals.strange += 1),
    };
    let refusal = match listener.upgrade().and_then(|listener| listener.seat(&app, &key)) {
        None => Refusal::Key,
        Some((vacancy, hand_over)) => match vacancy.try_acquire_owned() {
            Err(_) => Refusal::Busy,
            Ok(permit) => {
                session.accept();
                return give(Publisher::new(stream, session, peer, permit), &hand_over);
            }
        },
    };
    match refusal {
        Refusal::Key => {
            warn!(%peer, "an encoder was refused: no camera has its application and key");
            count(&listener, |refusals| refusals.wrong_key += 1);
            sleep(TARPIT).await;
        }
        Refusal::Busy => {
            warn!(%peer, "an encoder was refused: another one publishes with the same key");
            count(&listener, |refusals| refusals.busy += 1);
        }
    }
    session.refuse(refusal);
    if let Err(error) = timeout(TARPIT, flush(&mut stream, &mut session)).await {
        debug!(%peer, %error, "it does not take the answer");
    }
}

/// Hands an encoder over to its camera, which waits for one: there is room.
fn give(publisher: Publisher, hand_over: &mpsc::Sender<Publisher>) {
    if let Err(error) = hand_over.try_send(publisher) {
        debug!(%error, "the camera has just been stopped");
    }
}

/// Reads up to `publish`: application and key.
async fn ask(mut stream: TcpStream) -> Result<(TcpStream, Session, String, String), CaptureError> {
    stream.set_nodelay(true).ok();
    let mut session = Session::default();
    loop {
        match session.next_event().map_err(strange)? {
            Some(Event::Publish { app, key }) => return Ok((stream, session, app, key)),
            Some(_) | None => exchange(&mut stream, &mut session).await?,
        }
    }
}

fn strange(error: RtmpError) -> CaptureError {
    CaptureError::Unreachable(error.to_string())
}

impl Listener {
    /// The camera with this application and key.
    fn seat(&self, app: &str, key: &str) -> Option<(Arc<Semaphore>, mpsc::Sender<Publisher>)> {
        let places = lock(&self.places);
        let place = places.iter().find(|place| place.app == app && is_same(place.key.expose(), key))?;
        Some((place.vacancy.clone(), place.hand_over.clone()))
    }
}

/// Whether two keys are the same, in a time that does not tell how much of them is.
fn is_same(known: &str, given: &str) -> bool {
    let (known, given) = (known.as_bytes(), given.as_bytes());
    let differences = known.iter().zip(given).fold(0, |all, (known, given)| all | (known ^ given));
    known.len() == given.len() && std::hint::black_box(differences) == 0
}

/// Held while one publishes.
pub(super) type Permit = OwnedSemaphorePermit;
