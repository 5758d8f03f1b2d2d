//! Where a camera's pictures come from, as used: checked, defaulted, with units in the types.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use super::Aws;
pub use super::nvr::{Nuuo, NuuoCamera, NuuoDialect, NuuoProfile, Onvif, OnvifProfile};
use super::secret::Secret;
use crate::encode::{Control, Encoding};

/// One source kind and its settings.
#[derive(Clone, PartialEq, Debug)]
pub enum Source {
    /// An RTSP server: an IP camera or an NVR's channel.
    Rtsp(Rtsp),
    /// A camera of a NUUO recorder.
    Nuuo(Nuuo),
    /// An ONVIF device.
    Onvif(Onvif),
    /// Raw H.264 in Annex B form from a FIFO, a file or standard input.
    ElementaryStream(ElementaryStream),
    /// An MP4, Matroska or H.264 file played in real time.
    File(FileSource),
    /// A stream by HLS.
    Hls(Hls),
    /// A stream of Kinesis Video Streams, played back live.
    Kvs(Kvs),
    /// An encoder that pushes to us by RTMP.
    Rtmp(Rtmp),
    /// A drawn scene, encoded on the device.
    TestPattern(Encoding),
    /// A camera at a driver of the Linux kernel: USB, CSI, HDMI.
    V4l2(V4l2),
    /// A DeepLens camera: its encoder is set with `mxuvc`, its H.264 comes from a FIFO.
    Mxuvc(Mxuvc),
}

impl Source {
    /// The name of the kind, as the config file spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Rtsp(_) => "rtsp",
            Self::Nuuo(_) => "nuuo",
            Self::Onvif(_) => "onvif",
            Self::ElementaryStream(_) => "elementary_stream",
            Self::File(_) => "file",
            Self::Hls(_) => "hls",
            Self::Kvs(_) => "kvs",
            Self::Rtmp(_) => "rtmp",
            Self::TestPattern(_) => "test_pattern",
            Self::V4l2(_) => "v4l2",
            Self::Mxuvc(_) => "mxuvc",
        }
    }
}

/// How RTP travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RtspTransport {
    /// Interleaved in the RTSP connection; when the server refuses it (461), UDP.
    Tcp,
    /// UDP; when the server refuses it (461), interleaved.
    Udp,
}

/// Settings of an `rtsp` source.
#[derive(Clone, PartialEq, Debug)]
pub struct Rtsp {
    /// `rtsp://` or `rtsps://`, without user and password. Where there is a secret, nothing.
    pub url: Url,
    /// Where the URL is.
    pub secret: Option<UrlSecret>,
    /// For Basic and Digest.
    pub credentials: Option<Credentials>,
    /// Transport to ask for first.
    pub transport: RtspTransport,
    /// CA certificates (PEM) to trust for `rtsps` instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate of the camera. Off unless asked for; logged as a warning at each connection.
    pub insecure: bool,
    /// Deadline for connect, DESCRIBE, SETUP and PLAY, each.
    pub setup_timeout: Duration,
    /// A camera that sends no picture for this long is frozen.
    pub frame_timeout: Duration,
}

/// A secret of AWS Secrets Manager that holds a camera's URL, user and password included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlSecret {
    /// Its name or ARN.
    pub id: String,
    /// How to reach AWS, where Greengrass does not have it.
    pub aws: Aws,
    /// What it held last.
    pub last: LastUrl,
}

/// What a secret held last: shared by clones, in RAM only, never printed, and no part of the settings.
#[derive(Clone, Default)]
pub struct LastUrl(Arc<Mutex<Option<Read>>>);

/// What was read of a secret.
#[derive(Clone)]
pub struct Read {
    /// Without user and password.
    pub url: Url,
    /// These.
    pub credentials: Option<Credentials>,
    /// When it was read; `None`: the camera could not be had by it since.
    pub at: Option<Instant>,
}

impl LastUrl {
    /// What was read, if anything was.
    pub fn get(&self) -> Option<Read> {
        self.lock().clone()
    }

    /// Keeps what was read now.
    pub fn keep(&self, url: Url, credentials: Option<Credentials>) {
        *self.lock() = Some(Read { url, credentials, at: Some(Instant::now()) });
    }

    /// The camera cannot be had by it: the secret is to be read again. It stays for as long as that cannot be done.
    pub fn doubt(&self) {
        if let Some(read) = self.lock().as_mut() {
            read.at = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UrlSecret {
    /// The region in its ARN, if it is one.
    pub fn region(&self) -> Option<&str> {
        match self.id.split(':').collect::<Vec<_>>()[..] {
            ["arn", _, "secretsmanager", region, ..] if !region.is_empty() => Some(region),
            _ => None,
        }
    }
}

impl PartialEq for LastUrl {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastUrl {}

impl fmt::Debug for LastUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A user name and password.
#[derive(Clone, PartialEq, Debug)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password; never printed.
    pub password: Secret,
}

/// What an `elementary_stream` is read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A FIFO or a file.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

/// Settings of an `elementary_stream` source.
#[derive(Clone, PartialEq, Debug)]
pub struct ElementaryStream {
    /// What to read.
    pub input: Input,
    /// Frames a second, for streams that do not say. A regular file is paced by it.
    pub frame_rate: Option<f64>,
    /// Start again at the end of a regular file.
    pub repeat: bool,
    /// A writer that sends no picture for this long is reported as stalled.
    pub frame_timeout: Duration,
}

/// Settings of a `file` source.
#[derive(Clone, PartialEq, Debug)]
pub struct FileSource {
    /// `.mp4`, `.mov`, `.mkv`, `.h264` or `.264`; the content decides, not the name.
    pub path: PathBuf,
    /// Start again at the end.
    pub repeat: bool,
    /// Frames a second, for H.264 files that do not say.
    pub frame_rate: Option<f64>,
}

/// Settings of an `hls` source.
#[derive(Clone, PartialEq, Debug)]
pub struct Hls {
    /// `http://` or `https://`, without user and password: a playlist, of segments or of variants.
    pub url: Url,
    /// For Basic and Digest.
    pub credentials: Option<Credentials>,
    /// CA certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. Off unless asked for; logged as a warning at each connection.
    pub insecure: bool,
    /// A live stream without a new segment for this long is stalled; three target durations at least.
    pub stall_timeout: Duration,
}

impl Hls {
    /// Host and last component of `url`, which is this one or another of the same stream: a query often is a secret, and
    /// so is what stands in the path.
    pub fn shown(url: &Url) -> String {
        let mut components: Vec<&str> = url.path_segments().into_iter().flatten().collect();
        let last = components.pop().unwrap_or_default();
        let between = if components.is_empty() { "/" } else { "/…/" };
        format!("{}{between}{last}", url.host_str().unwrap_or_default())
    }
}

/// Settings of a `kvs` source.
#[derive(Clone, PartialEq, Debug)]
pub struct Kvs {
    /// Name of the stream.
    pub stream: String,
    /// Its region, and where credentials come from.
    pub aws: Aws,
    /// For how long a playback session is asked for; a new one takes over before it ends.
    pub session: Duration,
    /// A stream without a new fragment for this long is stalled; three target durations at least.
    pub stall_timeout: Duration,
}

/// Settings of an `rtmp` source.
#[derive(Clone, PartialEq, Debug)]
pub struct Rtmp {
    /// Where to listen. Cameras with the same address share it.
    pub listen: SocketAddr,
    /// The application that encoders connect to.
    pub app: String,
    /// What an encoder must know to publish, unique below `listen` and `app`.
    pub key: Secret,
    /// An encoder that sends no picture for this long is cut off.
    pub frame_timeout: Duration,
}

/// Which V4L2 device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum V4l2Device {
    /// The first camera there is.
    Auto,
    /// A node, or a link to one such as those below `/dev/v4l/by-id`.
    Path(PathBuf),
    /// `/dev/videoN`.
    Index(u32),
    /// A part of the device's name.
    Name(String),
}

/// What a V4L2 device is to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum V4l2Format {
    /// Whatever costs least.
    Auto,
    /// H.264, coded by the camera.
    H264,
    /// JPEG pictures.
    Mjpeg,
    /// 4:2:2, packed.
    Yuyv,
    /// 4:2:0 in two planes.
    Nv12,
    /// 4:2:0 in three planes.
    Yu12,
}

/// Settings of a `v4l2` source.
#[derive(Clone, PartialEq, Debug)]
pub struct V4l2 {
    /// Which device.
    pub device: V4l2Device,
    /// What it is to send.
    pub format: V4l2Format,
    /// What pictures it is to give; the camera's nearest.
    pub encoding: Encoding,
    /// Controls to set, by the driver's name or number.
    pub controls: BTreeMap<String, i64>,
    /// A camera that sends no picture for this long is frozen.
    pub frame_timeout: Duration,
}

/// Settings of an `mxuvc` source.
#[derive(Clone, PartialEq, Debug)]
pub struct Mxuvc {
    /// What the encoder is set to, and what its stream is checked against.
    pub encoding: Encoding,
    /// Most bytes of one picture, if the encoder is to keep to a limit.
    pub frame_size: Option<u32>,
    /// The encoder's channel.
    pub channel: u8,
    /// The vendor's tool, with a full path.
    pub tool: PathBuf,
    /// What it is run with, such as `sudo -n`; never a shell.
    pub command_prefix: Vec<String>,
    /// The FIFO that the stream comes from.
    pub stream: PathBuf,
    /// Set the encoder back at the end to what it was before.
    pub restore: Option<Encoding>,
    /// A writer that sends no picture for this long is reported as stalled.
    pub frame_timeout: Duration,
}

impl Source {
    /// Whether `control` may be asked of this source's encoder; if not, why.
    pub fn accepts(&self, control: Control) -> Result<(), String> {
        match self {
            Self::TestPattern(encoding) => encoding.under(control).check(),
            Self::V4l2(settings) => settings.encoding.under(control).check(),
            Self::Mxuvc(settings) => mxuvc_range(&settings.encoding.under(control)),
            other => Err(format!("the encoder of a source of the kind `{}` cannot be set from here", other.kind())),
        }
    }

    /// Whether the source makes an IDR when it is asked to.
    pub fn makes_idrs(&self) -> bool {
        matches!(self, Self::TestPattern(_) | Self::V4l2(_) | Self::Mxuvc(_))
    }
}

/// What `mxuvc` takes (libmxuvc: 1 to 30 frames a second; bitrates of 100 kbit/s to 2 Mbit/s are usual, the DeepLens
/// default is at their end and some firmware takes more).
pub fn mxuvc_range(encoding: &Encoding) -> Result<(), String> {
    encoding.check()?;
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    must(
        encoding.frame_rate <= 30.0 && encoding.frame_rate.fract() == 0.0,
        "the frame rate must be a whole number, 1 to 30",
    )?;
    must((100_000..=20_000_000).contains(&encoding.bitrate), "the bitrate must be 100000 to 20000000 bits a second")?;
    must(encoding.width <= 1920 && encoding.height <= 1080, "the encoder gives at most 1920x1080")
}
