//! An ONVIF device that keeps to the letter: it checks each signature, refuses what was signed more than 5 s before or
//! after its own time, and a nonce that it has seen. Its address is one that nobody can reach.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const MEDIA1: &str = "http://www.onvif.org/ver10/media/wsdl";
const MEDIA2: &str = "http://www.onvif.org/ver20/media/wsdl";

/// token, name, source, encoding, width
pub(crate) type Profile = (&'static str, &'static str, &'static str, &'static str, u32);

pub(crate) struct State {
    /// Its clock minus the machine's, in seconds.
    pub(crate) skew: i64,
    /// Whether it tells its time.
    pub(crate) has_clock: bool,
    /// Media2 and GetServices; else Media and GetCapabilities.
    pub(crate) is_new: bool,
    /// Whether Media2, which it names, is there.
    pub(crate) has_media2: bool,
    /// What it does not know it answers with 501 and nothing, instead of a fault.
    pub(crate) is_terse: bool,
    pub(crate) profiles: Vec<Profile>,
    /// Where the stream is, as it says.
    pub(crate) stream: String,
    /// The answer to GetProfiles instead of its own.
    pub(crate) instead: Option<Vec<u8>>,
    nonces: BTreeSet<String>,
    pub(crate) refused: Vec<String>,
    pub(crate) calls: Vec<String>,
}

pub(crate) struct Device {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    _serving: JoinSet<()>,
}

impl Device {
    /// User `admin`, password `test`, as the RTSP server's.
    pub(crate) async fn start(rtsp_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(Mutex::new(State {
            skew: 0,
            has_clock: true,
            is_new: true,
            has_media2: true,
            is_terse: false,
            profiles: vec![
                ("p_jpeg", "jpeg", "v0", "JPEG", 3840),
                ("p_main", "mainStream", "v0", "H264", 1920),
                ("p_sub", "subStream", "v0", "H264", 320),
            ],
            stream: format!("rtsp://wrong:secret@0.0.0.0:{rtsp_port}/cam1"),
            instead: None,
            nonces: BTreeSet::new(),
            refused: Vec::new(),
            calls: Vec::new(),
        }));
        let mut serving = JoinSet::new();
        let shared = state.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(connection(tcp, shared.clone()));
            }
        });
        Self { port, state, _serving: serving }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connection(mut tcp: TcpStream, state: Arc<Mutex<State>>) {
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        let whole = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            (body.len() >= length.unwrap_or(0)).then(|| (head.to_owned(), body.to_owned()))
        });
        if let Some((head, body)) = whole {
            heard.clear();
            let (status, answer) = state.lock().unwrap_or_else(PoisonError::into_inner).answer(&head, &body);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/soap+xml\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            if tcp.write_all(&[head.as_bytes(), &answer].concat()).await.is_err() {
                return;
            }
        } else if !matches!(tcp.read_buf(&mut heard).await, Ok(1..)) {
            return;
        }
    }
}

fn envelope(body: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\"?><env:Envelope xmlns:env=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:tt=\"http://www.onvif.org/ver10/schema\" xmlns:tds=\"http://www.onvif.org/ver10/device/wsdl\" \
         xmlns:trt=\"{MEDIA1}\" xmlns:tr2=\"{MEDIA2}\"><env:Body>{body}</env:Body></env:Envelope>"
    )
    .into_bytes()
}

fn fault(code: &str, text: &str) -> Vec<u8> {
    envelope(&format!(
        "<env:Fault><env:Code><env:Value>env:Sender</env:Value><env:Subcode><env:Value>{code}</env:Value></env:Subcode>\
         </env:Code><env:Reason><env:Text xml:lang=\"en\">{text}</env:Text></env:Reason></env:Fault>"
    ))
}

/// The text between `<…name …>` and the next `<`, whatever the prefix.
fn text<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let begins = |after: &&str| after.starts_with(['>', ' ']);
    let after = body.split(&format!(":{name}")).skip(1).find(begins)?;
    let (_, after) = after.split_once('>')?;
    Some(after.split_once('<')?.0)
}

impl State {
    fn is_media2(&self) -> bool {
        self.is_new && self.has_media2
    }

    fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        now.as_millis() as i64 + self.skew * 1000
    }

    fn answer(&mut self, head: &str, body: &str) -> (&'static str, Vec<u8>) {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let calls =
            ["GetSystemDateAndTime", "GetServices", "GetCapabilities", "GetProfiles", "GetStreamUri", "GetSnapshotUri"];
        let Some(call) = calls.into_iter().find(|call| body.contains(&format!(":{call}>"))) else {
            return ("400 Bad Request", fault("ter:UnknownAction", "what is that?"));
        };
        self.calls.push(format!("{call} {path}"));
        if call == "GetSystemDateAndTime" {
            return if self.has_clock {
                ("200 OK", self.time())
            } else {
                ("400 Bad Request", fault("ter:ActionNotSupported", "no clock"))
            };
        }
        if let Err(reason) = self.check(body) {
            self.refused.push(reason.to_owned());
            return ("400 Bad Request", fault("ter:NotAuthorized", "Sender not Authorized"));
        }
        let is_media = path == if self.is_media2() { "/onvif/media2" } else { "/onvif/media" };
        let namespace = if self.is_media2() { MEDIA2 } else { MEDIA1 };
        let unknown = |what: &str| match self.is_terse {
            true => ("501 Not Implemented", Vec::new()),
            false => ("500 Internal Server Error", fault("ter:ActionNotSupported", what)),
        };
        match call {
            "GetServices" if self.is_new => ("200 OK", self.services()),
            "GetCapabilities" if !self.is_new => {
                let media = "<tt:Media><tt:XAddr>http://192.0.2.1/onvif/media</tt:XAddr></tt:Media>";
                let body = format!(
                    "<tds:GetCapabilitiesResponse><tds:Capabilities>{media}</tds:Capabilities></tds:GetCapabilitiesResponse>"
                );
                ("200 OK", envelope(&body))
            }
            "GetServices" | "GetCapabilities" => unknown("not here"),
            _ if !is_media || !body.contains(namespace) => unknown("another service"),
            "GetProfiles" => ("200 OK", self.instead.clone().unwrap_or_else(|| self.list())),
            _ => self.uri(call, body),
        }
    }

    /// WS-Security UsernameToken Profile 1.0 section 3.1.
    fn check(&mut self, body: &str) -> Result<(), &'static str> {
        let field = |name: &str| text(body, name).ok_or("no token");
        let (nonce, created, digest) = (field("Nonce")?, field("Created")?, field("Password")?);
        if field("Username")? != "admin" || !body.contains("#PasswordDigest\"") {
            return Err("another user");
        }
        let at: jiff::Timestamp = created.parse().map_err(|_| "no time")?;
        if (at.as_millisecond() - self.now()).abs() > 5_000 {
            return Err("too old, or to come");
        }
        if !self.nonces.insert(nonce.to_owned()) {
            return Err("a nonce again");
        }
        let mut hash = Sha1::new();
        hash.update(BASE64.decode(nonce).map_err(|_| "no base64")?);
        hash.update(created);
        hash.update("test");
        if BASE64.encode(hash.finalize()) == digest { Ok(()) } else { Err("another password") }
    }

    fn time(&self) -> Vec<u8> {
        let now = jiff::Timestamp::from_millisecond(self.now()).expect("a time").to_zoned(jiff::tz::TimeZone::UTC);
        let (hour, minute, second) = (now.hour(), now.minute(), now.second());
        envelope(&format!(
            "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>Manual</tt:DateTimeType>\
             <tt:UTCDateTime><tt:Time><tt:Hour>{hour}</tt:Hour><tt:Minute>{minute}</tt:Minute><tt:Second>{second}</tt:Second>\
             </tt:Time><tt:Date><tt:Year>{}</tt:Year><tt:Month>{}</tt:Month><tt:Day>{}</tt:Day></tt:Date></tt:UTCDateTime>\
             </tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>",
            now.year(),
            now.month(),
            now.day()
        ))
    }

    fn services(&self) -> Vec<u8> {
        let service = |(namespace, address): (&str, &str)| {
            format!(
                "<tds:Service><tds:Namespace>{namespace}</tds:Namespace><tds:XAddr>{address}</tds:XAddr></tds:Service>"
            )
        };
        let list = [
            ("http://www.onvif.org/ver10/device/wsdl", "http://192.0.2.1/onvif/device_service"),
            (MEDIA1, "http://192.0.2.1/onvif/media"),
            (MEDIA2, "http://192.0.2.1/onvif/media2"),
        ];
        envelope(&format!("<tds:GetServicesResponse>{}</tds:GetServicesResponse>", list.map(service).concat()))
    }

    fn list(&self) -> Vec<u8> {
        let is_new = self.is_media2();
        let profile = |&(token, name, source, encoding, width): &Profile| {
            let height = width / 2;
            let size =
                format!("<tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height></tt:Resolution>");
            let source = format!("<tt:SourceToken>{source}</tt:SourceToken>");
            let encoder = format!("<tt:Encoding>{encoding}</tt:Encoding>{size}");
            if is_new {
                format!(
                    "<tr2:Profiles token=\"{token}\"><tr2:Name>{name}</tr2:Name><tr2:Configurations><tr2:VideoSource token=\"s\">\
                     {source}</tr2:VideoSource><tr2:VideoEncoder token=\"e\">{encoder}</tr2:VideoEncoder></tr2:Configurations>\
                     </tr2:Profiles>"
                )
            } else {
                format!(
                    "<trt:Profiles token=\"{token}\"><tt:Name>{name}</tt:Name><tt:VideoSourceConfiguration token=\"s\">{source}\
                     </tt:VideoSourceConfiguration><tt:VideoEncoderConfiguration token=\"e\">{encoder}\
                     </tt:VideoEncoderConfiguration></trt:Profiles>"
                )
            }
        };
        let list: String = self.profiles.iter().map(profile).collect();
        let prefix = if is_new { "tr2" } else { "trt" };
        envelope(&format!("<{prefix}:GetProfilesResponse>{list}</{prefix}:GetProfilesResponse>"))
    }

    fn uri(&self, call: &str, body: &str) -> (&'static str, Vec<u8>) {
        let token = text(body, "ProfileToken").unwrap_or_default();
        if !self.profiles.iter().any(|profile| profile.0 == token) {
            return ("400 Bad Request", fault("ter:NoProfile", "no such profile"));
        }
        let uri = match call {
            "GetSnapshotUri" => "http://0.0.0.0/snapshot.jpg",
            _ => self.stream.as_str(),
        };
        let answer = if self.is_new {
            format!("<tr2:{call}Response><tr2:Uri>{uri}</tr2:Uri></tr2:{call}Response>")
        } else {
            format!("<trt:{call}Response><trt:MediaUri><tt:Uri>{uri}</tt:Uri></trt:MediaUri></trt:{call}Response>")
        };
        ("200 OK", envelope(&answer))
    }
}
