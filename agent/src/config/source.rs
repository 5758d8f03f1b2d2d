//! Where a camera's pictures come from, as used: checked, defaulted, with units in the types.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::secret::Secret;
use crate::encode::{Control, Encoding};

/// One source kind and its settings.
#[derive(Clone, PartialEq, Debug)]
pub enum Source {
    /// An RTSP server: an IP camera or an NVR's channel.
    Rtsp(Rtsp),
    /// Raw H.264 in Annex B form from a FIFO, a file or standard input.
    ElementaryStream(ElementaryStream),
    /// An MP4, Matroska or H.264 file played in real time.
    File(FileSource),
    /// A drawn scene, encoded on the device.
    TestPattern(Encoding),
}

impl Source {
    /// The name of the kind, as the config file spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Rtsp(_) => "rtsp",
            Self::ElementaryStream(_) => "elementary_stream",
            Self::File(_) => "file",
            Self::TestPattern(_) => "test_pattern",
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
    /// `rtsp://` or `rtsps://`, without user and password.
    pub url: Url,
    /// For Basic and Digest.
    pub credentials: Option<RtspCredentials>,
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

/// A user name and password.
#[derive(Clone, PartialEq, Debug)]
pub struct RtspCredentials {
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

impl Source {
    /// Whether `control` may be asked of this source's encoder; if not, why.
    pub fn accepts(&self, control: Control) -> Result<(), String> {
        match self {
            Self::TestPattern(pattern) => pattern.under(control).check(),
            other => Err(format!("the encoder of a source of the kind `{}` cannot be set from here", other.kind())),
        }
    }

    /// Whether the source makes an IDR when it is asked to.
    pub fn makes_idrs(&self) -> bool {
        matches!(self, Self::TestPattern(_))
    }
}
