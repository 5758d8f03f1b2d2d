//! An encoder that publishes: from its bytes to delivered pictures and sound.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use edgecam_media::assembler::{Assembler, Losses};
use edgecam_media::clock::Arrival;
use edgecam_media::rtmp::{AudioTag, Event, RtmpError, Session, VideoTag};
use edgecam_media::{AudioCodec, AudioFormat, Codec, Ticks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

use super::listener::Permit;
use crate::capture::file::{configuration, with_four_byte_lengths};
use crate::capture::idr_watch::IdrWatch;
use crate::capture::{CaptureError, Sink};
use crate::config::source::Rtmp;

/// Read at once.
const CHUNK: usize = 32 << 10;

/// An encoder.
#[derive(Debug)]
pub(super) struct Publisher {
    stream: TcpStream,
    session: Session,
    /// Where it is.
    pub(super) peer: SocketAddr,
    /// Given back when it goes.
    _permit: Permit,
}

/// Sends what the session has to say.
pub(super) async fn flush(stream: &mut TcpStream, session: &mut Session) -> Result<(), CaptureError> {
    stream.write_all(&session.take_output()).await.map_err(gone)
}

/// The same, and then takes what the peer says next.
pub(super) async fn exchange(stream: &mut TcpStream, session: &mut Session) -> Result<(), CaptureError> {
    flush(stream, session).await?;
    let mut chunk = BytesMut::with_capacity(CHUNK);
    match stream.read_buf(&mut chunk).await.map_err(gone)? {
        0 => Err(CaptureError::Unreachable("the connection was closed".to_owned())),
        _ => {
            session.push(&chunk);
            Ok(())
        }
    }
}

fn gone(error: std::io::Error) -> CaptureError {
    CaptureError::Unreachable(error.to_string())
}

impl Publisher {
    pub(super) fn new(stream: TcpStream, session: Session, peer: SocketAddr, permit: Permit) -> Self {
        Self { stream, session, peer, _permit: permit }
    }

    /// Delivers until the encoder has finished (`Ok`) or goes.
    pub(super) async fn deliver(
        &mut self,
        settings: &Rtmp,
        feed: &mut Feed,
        sink: &mut Sink,
    ) -> Result<(), CaptureError> {
        feed.begin(self.peer, sink.now().monotonic);
        loop {
            while let Some(event) = self.session.next_event().map_err(refused)? {
                let at = sink.now();
                match event {
                    Event::Video(tag, time) => feed.video(tag, time, at, sink)?,
                    Event::Audio(tag, time) => feed.audio(tag, time, at, sink),
                    Event::Ended => return Ok(()),
                    Event::Publish { .. } => {}
                }
            }
            let patience = (feed.last_picture + settings.frame_timeout).saturating_sub(sink.now().monotonic);
            let said = timeout(patience, exchange(&mut self.stream, &mut self.session)).await;
            said.map_err(|_| CaptureError::Stalled(settings.frame_timeout))??;
        }
    }
}

fn refused(error: RtmpError) -> CaptureError {
    match error {
        RtmpError::Codec(_) => CaptureError::UnsupportedCodec(format!("the encoder sends {error}")),
        _ => CaptureError::Unreachable(error.to_string()),
    }
}

/// What is known of the stream.
pub(super) struct Feed {
    peer: Option<SocketAddr>,
    assembler: Assembler<()>,
    length_size: usize,
    losses: Losses,
    idr_watch: IdrWatch,
    /// When the last picture came, delivered or not.
    last_picture: Duration,
    clock: Clock,
    audio: Option<AudioCodec>,
    is_told: bool,
}

/// The encoder's clock on ours: both tracks have the same one.
#[derive(Default)]
struct Clock {
    /// Unwrapped milliseconds of the message before, and what to add for the attempt's media time.
    base: Option<(i64, Ticks)>,
}

impl Clock {
    /// Media time of a message that is decoded at `time` and arrived at `at`: the attempt's own clock goes on from one
    /// encoder to the next.
    fn media(&mut self, time: u32, at: Arrival) -> Ticks {
        let (last, offset) = self
            .base
            .unwrap_or_else(|| (time.into(), Ticks::from_duration(at.monotonic) - Ticks::from_millis(time.into())));
        // The nearest to the one before, of those that are the same in 32 bits.
        let now = last + i64::from(time.wrapping_sub(last as u32) as i32);
        self.base = Some((now, offset));
        Ticks::from_millis(now) + offset
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            peer: None,
            assembler: Assembler::default(),
            length_size: 4,
            losses: Losses::default(),
            idr_watch: IdrWatch::new(Duration::ZERO),
            last_picture: Duration::ZERO,
            clock: Clock::default(),
            audio: None,
            is_told: false,
        }
    }
}

impl Feed {
    /// Another encoder, or the same one again: nothing of what was before goes on, but for what was counted.
    fn begin(&mut self, peer: SocketAddr, now: Duration) {
        let mut assembler = std::mem::take(&mut self.assembler);
        assembler.lost();
        let losses = self.losses;
        let idr_watch = IdrWatch::new(now);
        *self = Self { peer: Some(peer), assembler, losses, idr_watch, last_picture: now, ..Self::default() };
    }

    fn video(&mut self, tag: VideoTag, time: u32, at: Arrival, sink: &mut Sink) -> Result<(), CaptureError> {
        match tag {
            VideoTag::Configuration(codec, record) => self.configure(codec, &record),
            VideoTag::Picture(codec, data, composition) if codec == self.assembler.codec() => {
                let decoded = self.clock.media(time, at);
                let data = match self.length_size {
                    4 => data,
                    size => with_four_byte_lengths(data.to_vec(), size),
                };
                self.last_picture = at.monotonic;
                if let Some(picture) = self.assembler.push_picture(data) {
                    self.idr_watch.delivered(at.monotonic);
                    sink.deliver(picture, decoded + Ticks::from_millis(composition.into()), at);
                }
                let losses = self.assembler.losses();
                if losses != self.losses {
                    self.losses = losses;
                    sink.count_lost(|lost| lost.stream = losses);
                    self.idr_watch.left_out(at.monotonic, losses, "the encoder")?;
                }
                Ok(())
            }
            VideoTag::Picture(..) | VideoTag::Other => Ok(()),
        }
    }

    fn configure(&mut self, codec: Codec, record: &Bytes) -> Result<(), CaptureError> {
        let (sets, length_size) = configuration(codec, record).map_err(|error| {
            CaptureError::UnsupportedCodec(format!("the encoder's description of its video: {}", error.what()))
        })?;
        if codec != self.assembler.codec() {
            self.assembler = Assembler::new(codec);
        }
        self.assembler.learn(&sets);
        self.length_size = length_size;
        Ok(())
    }

    fn audio(&mut self, tag: AudioTag, time: u32, at: Arrival, sink: &mut Sink) {
        if !sink.wants_audio() {
            return;
        }
        let peer = self.peer.map(tracing::field::display);
        match tag {
            AudioTag::AacConfiguration(record) => match AudioFormat::aac(record) {
                Ok(format) => {
                    sink.set_audio(format);
                    self.audio = Some(AudioCodec::Aac);
                }
                Err(error) => warn!(peer, %error, "the encoder's sound cannot be used: only pictures are recorded"),
            },
            AudioTag::Frame(codec, data) => {
                if self.audio.is_none() && codec != AudioCodec::Aac {
                    // FLV has it in one channel of 8 kHz only.
                    sink.set_audio(AudioFormat::g711(codec, 8000, 1));
                    self.audio = Some(codec);
                }
                if self.audio == Some(codec) {
                    let media = self.clock.media(time, at);
                    sink.deliver_audio(data, media, at);
                }
            }
            AudioTag::Unknown(id) if !self.is_told => {
                self.is_told = true;
                warn!(peer, codec = id, "the encoder's sound is not AAC or G.711: only pictures are recorded");
            }
            AudioTag::Unknown(_) | AudioTag::Empty => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use edgecam_media::Timestamp;

    use super::*;

    #[test]
    fn the_clock_wraps_and_goes_on() {
        let at = Arrival { monotonic: Duration::from_secs(7), wall: Timestamp::EPOCH };
        let mut clock = Clock::default();
        let begin = u32::MAX - 10;
        let times = [begin, begin + 5, 20, 15, 45];
        let media: Vec<i64> = times.iter().map(|time| clock.media(*time, at).millis()).collect();
        assert_eq!(media, [7000, 7005, 7031, 7026, 7056]);
    }
}
