//! A NUUO recorder, in both dialects. It refuses what the real ones refuse (no Basic, another namespace, an envelope
//! where none belongs, a session that is not the newest), and has every habit that is known of them.
//!
//! It runs on a thread of its own, so that nothing a test does delays its pictures.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::clip::Unit;
use super::xml;

/// admin:pa ss
const BASIC: &str = "Basic YWRtaW46cGEgc3M=";
/// 100 ns from 1601 to 1970.
const EPOCH: u64 = 116_444_736_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    Titan,
    Crystal,
}

/// What happens once, when a picture is to be sent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Fault {
    /// The connection is closed.
    Cut,
    /// The same in the middle of the picture.
    CutInside,
    /// Nothing more comes on this connection.
    Stall,
    /// The stream is closed, and the session of the next login is refused with 400.
    Refuse,
    /// The session expires: the stream is closed, and the next login's session is answered with 200 and XML.
    RefuseByXml,
    /// The session expires: XML stands in the stream.
    ExpireInBand,
    /// The server's clock moves by so many seconds.
    Jump(i64),
    /// These bytes stand in the stream, and then nothing.
    Say(Vec<u8>),
}

/// How a camera's parts look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dress {
    /// A key frame comes as two: parameter sets and SEI, then parameter sets and IDR.
    pub(crate) split_key_frames: bool,
    /// A zero byte behind the PPS, before a start code of four bytes.
    pub(crate) padded_pps: bool,
    /// Audio that says it is a key frame, before each picture.
    pub(crate) audio: bool,
    /// Header names in other cases.
    pub(crate) odd_case: bool,
    /// The list holds an empty codec, and a profile without one.
    pub(crate) no_codec: bool,
    /// Pictures come five at a time.
    pub(crate) in_bursts: bool,
    /// The clip is sent again and again.
    pub(crate) repeats: bool,
}

pub(crate) struct Camera {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) units: Arc<Vec<Unit>>,
    pub(crate) dress: Dress,
    /// By the picture they come before.
    pub(crate) faults: VecDeque<(usize, Fault)>,
    /// The next picture.
    pub(crate) next: usize,
    /// It sends nothing as long as this is set.
    pub(crate) frozen: bool,
    /// Connections are closed and refused as long as this is set.
    pub(crate) dead: bool,
    pub(crate) watchers: usize,
}

impl Camera {
    pub(crate) fn new(id: &str, name: &str, units: &Arc<Vec<Unit>>) -> Self {
        let (id, name) = (id.to_owned(), name.to_owned());
        Self {
            id,
            name,
            units: units.clone(),
            dress: Dress::default(),
            faults: VecDeque::new(),
            next: 0,
            frozen: false,
            dead: false,
            watchers: 0,
        }
    }
}

/// What the server knows; tests change it while it runs.
pub(crate) struct State {
    pub(crate) dialect: Dialect,
    pub(crate) cameras: Vec<Camera>,
    /// Pictures a second.
    pub(crate) rate: f64,
    /// Sessions that count.
    pub(crate) sessions: Vec<u64>,
    pub(crate) logins: u64,
    /// The next login's session is refused, by a status or by XML.
    refuse_next: Option<Fault>,
    refused: BTreeMap<u64, Fault>,
    /// Of the clock, in seconds.
    skew: i64,
    /// What a client did that a real server does not take.
    pub(crate) violations: Vec<String>,
    /// Answers to take instead of the real ones, by call.
    pub(crate) instead: BTreeMap<&'static str, Vec<u8>>,
    /// The password has been changed.
    pub(crate) locked: bool,
}

/// The recorder. Ends when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    end: CancellationToken,
}

impl Server {
    pub(crate) fn start(dialect: Dialect, cameras: Vec<Camera>) -> Self {
        let state = Arc::new(Mutex::new(State {
            dialect,
            cameras,
            rate: 15.0,
            sessions: Vec::new(),
            logins: 0,
            refuse_next: None,
            refused: BTreeMap::new(),
            skew: 0,
            violations: Vec::new(),
            instead: BTreeMap::new(),
            locked: false,
        }));
        let end = CancellationToken::new();
        let (ready, port) = std::sync::mpsc::sync_channel(1);
        let (shared, until) = (state.clone(), end.clone());
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (port, listeners) = listen().await;
                ready.send(port).expect("the test waits");
                tokio::select! {
                    () = until.cancelled() => {}
                    () = accept(listeners, shared) => {}
                }
            });
        };
        std::thread::Builder::new().name("nuuo".to_owned()).spawn(serve).expect("a thread");
        Self { port: port.recv().expect("it listens"), state, end }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Nothing was asked in a way that a real server does not take.
    pub(crate) fn assert_well_asked(&self) {
        let violations = self.state().violations.clone();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The control port, and the one after it for live video.
async fn listen() -> (u16, [TcpListener; 2]) {
    loop {
        let port = crate::harness::agent::free_port();
        let (first, second) =
            tokio::join!(TcpListener::bind(("127.0.0.1", port)), TcpListener::bind(("127.0.0.1", port + 1)));
        if let (Ok(first), Ok(second)) = (first, second) {
            return (port, [first, second]);
        }
    }
}

async fn accept([control, live]: [TcpListener; 2], state: Arc<Mutex<State>>) {
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let (accepted, is_live) = tokio::select! {
            accepted = control.accept() => (accepted, false),
            accepted = live.accept() => (accepted, true),
        };
        let Ok((tcp, _)) = accepted else { continue };
        serving.spawn(connection(tcp, is_live, state.clone()));
        while serving.try_join_next().is_some() {}
    }
}

struct Request {
    line: String,
    fields: String,
    body: String,
}

async fn hear(tcp: &mut TcpStream) -> Option<Request> {
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
            let length = field(fields, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return Some(Request { line: line.to_owned(), fields: fields.to_owned(), body: body.to_owned() });
            }
        }
        if tcp.read_buf(&mut heard).await.ok()? == 0 {
            return None;
        }
    }
}

fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let split = fields.lines().filter_map(|line| line.split_once(':'));
    split.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

async fn connection(mut tcp: TcpStream, is_live: bool, state: Arc<Mutex<State>>) {
    tcp.set_nodelay(true).ok();
    while let Some(request) = hear(&mut tcp).await {
        let answer = match answer(&request, is_live, &state) {
            Ok(Answer::Drop) => return,
            Ok(Answer::Xml(body)) => message("200 OK", &body),
            Ok(Answer::Raw(bytes)) => bytes,
            Ok(Answer::Live(camera)) => return live(tcp, camera, &state).await,
            Err(status) => message(status, b""),
        };
        if tcp.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn message(status: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

enum Answer {
    /// No answer at all.
    Drop,
    Xml(Vec<u8>),
    Raw(Vec<u8>),
    Live(usize),
}

fn answer(request: &Request, is_live: bool, state: &Mutex<State>) -> Result<Answer, &'static str> {
    let mut state = lock(state);
    let mut words = request.line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let authorization = field(&request.fields, "authorization");
    if authorization != Some(BASIC) || state.locked {
        if authorization.is_none() {
            state.violations.push(format!("no Basic in {}", request.line));
        }
        return Err("401 Unauthorized");
    }
    if let Some(bytes) = state
        .instead
        .iter()
        .find(|(call, _)| {
            request.body.contains(&format!("<np:{call}>")) || request.body.contains(&format!("<np:{call} "))
        })
        .map(|(_, bytes)| bytes.clone())
    {
        return Ok(Answer::Raw(bytes));
    }
    match (state.dialect, method, target) {
        // What it does not know, it drops.
        (Dialect::Titan, "POST", "/api/RPC") => Ok(Answer::Drop),
        (Dialect::Titan, "POST", "/api/") => {
            state.expect(&request.body, "getTitanDeviceTreeList", true)?;
            Ok(Answer::Xml(xml::device_tree(&state.cameras)))
        }
        (Dialect::Titan, "GET", target) => state.titan_live(target),
        (Dialect::Crystal, "POST", "/api/event_session") if !is_live => {
            state.expect(&request.body, "login", false)?;
            Ok(Answer::Xml(state.log_in()))
        }
        (Dialect::Crystal, "POST", "/api/RPC") if !is_live => state.rpc(&request.body),
        (Dialect::Crystal, "POST", "/api/live") if is_live => state.crystal_live(&request.body),
        _ => {
            state.violations.push(format!("nobody asks `{}`", request.line));
            Err("404 Not Found")
        }
    }
}

impl State {
    /// A call in the right namespace, and with or without an envelope as it must be.
    fn expect(&mut self, body: &str, call: &str, enveloped: bool) -> Result<(), &'static str> {
        let is_call =
            body.contains(&format!("</np:{call}>")) && body.contains("xmlns:np=\"http://tempuri.org/np.xsd\"");
        if is_call && body.contains("SOAP-ENV:Body") == enveloped {
            return Ok(());
        }
        self.violations.push(format!("not a call of {call} (enveloped: {enveloped}): {body}"));
        Err("400 Bad Request")
    }

    fn log_in(&mut self) -> Vec<u8> {
        self.logins += 1;
        let session = 52_000 + self.logins;
        self.sessions.push(session);
        if let Some(fault) = self.refuse_next.take() {
            self.refused.insert(session, fault);
        }
        xml::login(session)
    }

    fn session(&mut self, body: &str) -> Result<u64, &'static str> {
        let session = xml::text(body, "sessionId").and_then(|text| text.parse().ok()).unwrap_or(0);
        if self.sessions.contains(&session) {
            return Ok(session);
        }
        self.violations.push(format!("session {session} counts no more, or never did"));
        Err("400 Bad Request")
    }

    fn rpc(&mut self, body: &str) -> Result<Answer, &'static str> {
        let call = ["getSyncOEMString", "getServerList", "getDeviceList"].into_iter().find(|call| body.contains(call));
        let call = call.ok_or("400 Bad Request")?;
        self.expect(body, call, true)?;
        if call == "getSyncOEMString" {
            return Ok(Answer::Xml(xml::oem()));
        }
        self.session(body)?;
        if call == "getServerList" {
            return Ok(Answer::Xml(xml::servers()));
        }
        if xml::text(body, "serverId") != Some(xml::SERVER) {
            self.violations.push(format!("another server: {body}"));
            return Err("400 Bad Request");
        }
        Ok(Answer::Xml(xml::devices(&self.cameras)))
    }

    fn crystal_live(&mut self, body: &str) -> Result<Answer, &'static str> {
        self.expect(body, "live", false)?;
        let session = self.session(body)?;
        match self.refused.remove(&session) {
            Some(Fault::RefuseByXml) => {
                self.sessions.retain(|known| *known != session);
                return Ok(Answer::Xml(xml::fault()));
            }
            Some(_) => {
                self.sessions.retain(|known| *known != session);
                return Err("400 Bad Request");
            }
            None => {}
        }
        let is_whole = xml::text(body, "server") == Some(xml::SERVER)
            && xml::text(body, "serverId") == Some(xml::SERVER)
            && xml::text(body, "includeContent") == Some("0")
            && xml::text(body, "profile").is_some_and(|profile| ["0", "1", "2"].contains(&profile));
        if !is_whole {
            self.violations.push(format!("not a call of live: {body}"));
            return Err("400 Bad Request");
        }
        self.camera(xml::text(body, "device").unwrap_or_default())
    }

    fn titan_live(&mut self, target: &str) -> Result<Answer, &'static str> {
        let url = url::Url::parse(&format!("http://nvr{target}")).map_err(|_| "400 Bad Request")?;
        let value = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        if url.path() != "/api/live"
            || !value("profile").is_some_and(|name| ["Original", "Low", "Minimum"].contains(&name.as_str()))
        {
            self.violations.push(format!("nobody asks {target}"));
            return Err("400 Bad Request");
        }
        self.camera(&value("sensor").unwrap_or_default())
    }

    fn camera(&mut self, id: &str) -> Result<Answer, &'static str> {
        let found = self.cameras.iter().position(|camera| camera.id == id);
        let index = found.ok_or("404 Not Found")?;
        if self.cameras[index].dead { Ok(Answer::Drop) } else { Ok(Answer::Live(index)) }
    }
}

/// What a camera does next.
enum Step {
    Send(Vec<u8>),
    /// Then the connection is closed.
    Last(Vec<u8>),
    Hold,
    Wait,
}

/// Sends pictures until the client goes.
async fn live(mut tcp: TcpStream, index: usize, shared: &Mutex<State>) {
    let (head, rate, in_bursts) = {
        let mut state = lock(shared);
        state.cameras[index].watchers += 1;
        let head = match state.dialect {
            Dialect::Titan => "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=NUUO\r\n\r\n",
            Dialect::Crystal => {
                "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
            }
        };
        (head, state.rate, state.cameras[index].dress.in_bursts)
    };
    let mut failed = tcp.write_all(head.as_bytes()).await.is_err();
    let began = Instant::now();
    let mut sent = 0_u32;
    while !failed {
        let step = lock(shared).step(index);
        match step {
            Step::Send(bytes) => {
                failed = tcp.write_all(&bytes).await.is_err();
                sent += 1;
            }
            Step::Last(bytes) => {
                tcp.write_all(&bytes).await.ok();
                break;
            }
            Step::Wait => {}
            Step::Hold => {
                // Until the client closes.
                tcp.read_u8().await.ok();
                break;
            }
        }
        if in_bursts && !sent.is_multiple_of(5) {
            continue;
        }
        let due = began + Duration::from_secs_f64(f64::from(sent) / rate);
        let pause = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut byte = [0];
        if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(pause, tcp.read(&mut byte)).await {
            break;
        }
    }
    lock(shared).cameras[index].watchers -= 1;
}

impl State {
    fn step(&mut self, index: usize) -> Step {
        let camera = &mut self.cameras[index];
        if camera.dead {
            return Step::Last(Vec::new());
        }
        if camera.frozen {
            return Step::Wait;
        }
        if camera.dress.repeats && camera.next >= camera.units.len() {
            camera.next = 0;
        }
        let at = camera.next;
        if camera.faults.front().is_some_and(|(before, _)| *before == at) {
            let (_, fault) = camera.faults.pop_front().expect("there is one");
            return self.strike(index, fault);
        }
        let Some(unit) = camera.units.get(at).cloned() else { return Step::Hold };
        camera.next += 1;
        Step::Send(self.parts(index, at, &unit))
    }

    fn strike(&mut self, index: usize, fault: Fault) -> Step {
        match fault {
            Fault::Cut => Step::Last(Vec::new()),
            Fault::CutInside => {
                let (at, unit) =
                    (self.cameras[index].next, self.cameras[index].units[self.cameras[index].next].clone());
                let bytes = self.parts(index, at, &unit);
                Step::Last(bytes[..bytes.len() * 2 / 3].to_vec())
            }
            Fault::Stall => Step::Hold,
            Fault::Refuse | Fault::RefuseByXml => {
                self.sessions.clear();
                self.refuse_next = Some(fault);
                Step::Last(Vec::new())
            }
            Fault::ExpireInBand => {
                self.sessions.clear();
                Step::Send([&xml::fault()[..], b"\r\n"].concat())
            }
            Fault::Jump(seconds) => {
                self.skew += seconds;
                Step::Wait
            }
            Fault::Say(bytes) => {
                let camera = &mut self.cameras[index];
                camera.faults.push_front((camera.next, Fault::Stall));
                Step::Send(bytes)
            }
        }
    }

    /// The parts of one picture.
    fn parts(&self, index: usize, at: usize, unit: &Unit) -> Vec<u8> {
        let dress = &self.cameras[index].dress;
        let mut out = Vec::new();
        if dress.audio {
            out.extend(self.part(dress, "audio/x-g711-mulaw", true, at, &[0, 0, 0, 1, 0x67, 0xff]));
        }
        let sets = unit.sets(dress.padded_pps);
        if unit.is_idr && dress.split_key_frames {
            let first = [&sets[..], &[0, 0, 0, 1, 6, 5, 1, 1, 0x80]].concat();
            out.extend(self.part(dress, "video/x-H264", true, at, &first));
        }
        let body = [&sets[..], &unit.slice()].concat();
        out.extend(self.part(dress, "video/x-H264", unit.is_idr, at, &body));
        out
    }

    fn part(&self, dress: &Dress, kind: &str, is_key: bool, at: usize, body: &[u8]) -> Vec<u8> {
        let names = match dress.odd_case {
            false => ["Content-Type", "isKeyFrame", "Content-Length", "time"],
            true => ["CONTENT-TYPE", "IsKeyframe", "content-length", "TIME"],
        };
        let [kind_name, key_name, length_name, time_name] = names;
        let length = body.len();
        let fields = format!("{kind_name}: {kind}\r\n{key_name}: {is_key}\r\n{length_name}: {length}\r\n");
        let head = match self.dialect {
            Dialect::Titan => format!("--NUUO\r\n{fields}\r\n"),
            Dialect::Crystal => {
                let time = self.filetime(at);
                format!("POST /live HTTP/1.1\r\n{fields}{time_name}: {time}\r\n\r\n")
            }
        };
        [head.as_bytes(), body, b"\r\n"].concat()
    }

    /// The capture time of a picture: evenly spaced, whenever it is sent.
    fn filetime(&self, at: usize) -> u64 {
        static BEGAN: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64 / 100 + EPOCH;
        let since = (at as f64 / self.rate * 1e7) as i64 + self.skew * 10_000_000;
        BEGAN.get_or_init(now).saturating_add_signed(since)
    }
}
