//! IP cameras and NVRs by RTSP, through the `retina` crate.
//!
//! Invariants: every step has a deadline, and so has every picture: a camera that keeps the connection open and sends
//! nothing is found. Sender reports are no sign of life. Packets are put together where retina does it, and the one
//! copy it makes is the one that goes into the log. After a loss nothing is delivered up to the next IDR.
//!
//! Audio is set up only where it is asked for. Deliberately absent: several streams of one camera; redirects; ONVIF. A UDP socket
//! has the receive buffer that the system gives (`net.core.rmem_default`): retina makes it and offers no way to enlarge
//! it, and it drops packets that come out of order. UDP is for cameras that know nothing else.

mod audio;
mod endpoint;
mod mjpeg;
mod secret;
mod tls_tunnel;

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use edgecam_media::assembler::Assembler;
use edgecam_media::{Codec, ParameterSets, Ticks};
use futures_util::StreamExt;
use retina::client::{
    Credentials, Demuxed, Described, PlayOptions, Session, SessionOptions, SetupOptions, Stream, TcpTransportOptions,
    TeardownPolicy, Transport, UdpTransportOptions,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

use self::audio::Audio;
use self::endpoint::{Endpoint, Step};
use self::mjpeg::Transcoder;
use self::tls_tunnel::Tunnel;
use super::continuity::Continuity;
use super::idr_watch::IdrWatch;
use super::{CaptureError, Sink};
use crate::config::source::{Rtsp, RtspTransport};

/// How long a tunnel outlives its session, for the TEARDOWN that retina then sends through it.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to try whether a camera that did not answer takes connections at all.
const PROBE: Duration = Duration::from_secs(2);

/// Connects and delivers until `cancel` is called (`Ok`) or something ends it.
pub async fn attempt(settings: &Rtsp, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    let Some(secret) = &settings.secret else { return connect(settings, sink, cancel).await };
    let (url, credentials) = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        found = Box::pin(secret::url(secret)) => found?,
    };
    let named = Rtsp { url, credentials, secret: None, ..settings.clone() };
    let ended = connect(&named, sink, cancel).await;
    if let Err(CaptureError::AuthFailed(_) | CaptureError::Unreachable(_) | CaptureError::NotFound(_)) = &ended {
        secret.last.doubt();
    }
    ended
}

async fn connect(settings: &Rtsp, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    let endpoint = Endpoint::new(&settings.url, settings.credentials.is_some())?;
    let tunnel = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        tunnel = prepare(settings, &endpoint) => tunnel?,
    };
    let Some(tunnel) = tunnel else {
        let camera = Camera { endpoint: &endpoint, settings, transports: transports(settings.transport) };
        return tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            error = camera.watch(settings.url.clone(), sink) => Err(error),
        };
    };
    let camera = Camera { endpoint: &endpoint, settings, transports: &[RtspTransport::Tcp] };
    let url = tunnel.url();
    let mut carry = pin!(tunnel.carry());
    let mut carrying = true;
    let end = {
        let mut watch = pin!(camera.watch(url, sink));
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break Ok(()),
                error = &mut watch => break Err(error),
                end = &mut carry, if carrying => {
                    // Retina finds its connection closed, and that ends the session.
                    carrying = false;
                    if let Err(error) = end {
                        debug!(camera = %endpoint, %error, "the TLS connection broke");
                    }
                }
            }
        }
    };
    if carrying && timeout(FAREWELL, carry).await.is_err() {
        debug!(camera = %endpoint, "no answer to TEARDOWN");
    }
    end
}

/// Resolves the name, and for `rtsps` connects.
async fn prepare(settings: &Rtsp, endpoint: &Endpoint) -> Result<Option<Tunnel>, CaptureError> {
    resolve(endpoint, settings.setup_timeout).await?;
    if settings.url.scheme() != "rtsps" {
        return Ok(None);
    }
    if settings.transport == RtspTransport::Udp {
        warn!(camera = %endpoint, "rtsps carries video in its own connection: the transport 'udp' is not used");
    }
    Tunnel::open(settings, endpoint).await.map(Some)
}

/// For the sake of the message alone: who connects resolves again.
async fn resolve(endpoint: &Endpoint, limit: Duration) -> Result<(), CaptureError> {
    if endpoint.host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let slow = || endpoint.unresolved(&io::Error::from(io::ErrorKind::TimedOut));
    let found = timeout(limit, lookup_host((endpoint.host.as_str(), endpoint.port))).await.map_err(|_| slow())?;
    found.map(drop).map_err(|error| endpoint.unresolved(&error))
}

fn transports(first: RtspTransport) -> &'static [RtspTransport] {
    match first {
        RtspTransport::Tcp => &[RtspTransport::Tcp, RtspTransport::Udp],
        RtspTransport::Udp => &[RtspTransport::Udp, RtspTransport::Tcp],
    }
}

struct Camera<'a> {
    endpoint: &'a Endpoint,
    settings: &'a Rtsp,
    /// In the order to ask for them.
    transports: &'a [RtspTransport],
}

impl Camera<'_> {
    /// Delivers for as long as it goes, and returns what ended it.
    async fn watch(&self, url: Url, sink: &mut Sink) -> CaptureError {
        match self.begin(url, sink.wants_audio()).await {
            Ok(playing) => self.receive(playing, sink).await,
            Err(error) => error,
        }
    }

    /// DESCRIBE, SETUP and PLAY.
    async fn begin(&self, url: Url, wants_audio: bool) -> Result<Playing, CaptureError> {
        let limit = self.settings.setup_timeout;
        let credentials = self.settings.credentials.as_ref().map(|credentials| Credentials {
            username: credentials.username.clone(),
            password: credentials.password.expose().to_owned(),
        });
        let options = SessionOptions::default()
            .creds(credentials)
            .user_agent(concat!("edgecam/", env!("CARGO_PKG_VERSION")).to_owned())
            .teardown(TeardownPolicy::Auto);
        let mut session = match timeout(limit, Session::describe(url, options)).await {
            Ok(described) => described.map_err(|error| self.endpoint.failed(Step::Describe, &error))?,
            Err(_) => return Err(self.silent().await),
        };
        let (stream, codec) = self.choose(session.streams())?;
        let transport = self.set_up(&mut session, stream, self.transports).await?;
        let audio = self.set_up_audio(&mut session, transport, wants_audio).await;
        let clock_rate = session.streams()[stream].clock_rate_hz();
        let playing = timeout(limit, session.play(PlayOptions::default()))
            .await
            .map_err(|_| self.endpoint.silent_server(Step::Play, limit))?
            .and_then(Session::demuxed)
            .map_err(|error| self.endpoint.failed(Step::Play, &error))?;
        let named = codec.map_or("MJPEG", Codec::name);
        info!(camera = %self.endpoint, ?transport, codec = named, "playing");
        Ok(Playing { frames: playing, stream, codec, audio, transport, clock_rate })
    }

    /// No answer in time: is it the host or the server in it?
    async fn silent(&self) -> CaptureError {
        let limit = self.settings.setup_timeout;
        let probe = TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port));
        match timeout(PROBE, probe).await {
            Ok(Ok(_)) => self.endpoint.silent_server(Step::Describe, limit),
            Ok(Err(error)) => self.endpoint.unconnected(&error),
            Err(_) => self.endpoint.silent_host(Some(limit)),
        }
    }

    /// The first H.264 stream, else the first H.265 stream, else the first of JPEG pictures (`None`).
    fn choose(&self, streams: &[Stream]) -> Result<(usize, Option<Codec>), CaptureError> {
        let video = || streams.iter().enumerate().filter(|(_, stream)| stream.media() == "video");
        let first = video().map(|(_, stream)| stream.encoding_name()).next();
        [("h264", Some(Codec::H264)), ("h265", Some(Codec::H265)), ("jpeg", None)]
            .into_iter()
            .find_map(|(name, codec)| {
                let (index, _) = video().find(|(_, stream)| stream.encoding_name() == name)?;
                Some((index, codec))
            })
            .ok_or_else(|| CaptureError::UnsupportedCodec(format!("{} sends {}", self.endpoint, unsupported(first))))
    }

    /// Asks for one transport after the other. Only a refusal of the transport itself leads to the next.
    async fn set_up(
        &self,
        session: &mut Session<Described>,
        stream: usize,
        transports: &[RtspTransport],
    ) -> Result<RtspTransport, CaptureError> {
        let limit = self.settings.setup_timeout;
        let mut refusal = None;
        for &transport in transports {
            let options = SetupOptions::default().frame_format(FrameFormat::MP4).transport(match transport {
                RtspTransport::Tcp => Transport::Tcp(TcpTransportOptions::default()),
                RtspTransport::Udp => Transport::Udp(UdpTransportOptions::default()),
            });
            match timeout(limit, session.setup(stream, options)).await {
                Ok(Ok(())) => return Ok(transport),
                Ok(Err(error)) if error.status_code() == Some(461) => {
                    info!(camera = %self.endpoint, ?transport, "the camera refuses this transport");
                    refusal = Some(error);
                }
                Ok(Err(error)) => return Err(self.endpoint.failed(Step::Setup, &error)),
                Err(_) => return Err(self.endpoint.silent_server(Step::Setup, limit)),
            }
        }
        Err(refusal.map_or_else(|| self.endpoint.closed(), |error| self.endpoint.failed(Step::Setup, &error)))
    }

    async fn receive(&self, mut playing: Playing, sink: &mut Sink) -> CaptureError {
        let limit = self.settings.frame_timeout;
        let transcoder = match playing.codec {
            Some(_) => None,
            None => {
                let rate = playing.frames.streams()[playing.stream].framerate();
                match Transcoder::start(rate.map(f64::from), sink) {
                    Ok(transcoder) => Some(transcoder),
                    Err(error) => return error,
                }
            }
        };
        let mut receiver = Receiver {
            camera: self,
            transcoder,
            assembler: Assembler::new(playing.codec.unwrap_or(Codec::H264)),
            continuity: Continuity::default(),
            idr_watch: IdrWatch::new(sink.now().monotonic),
            clock_rate: playing.clock_rate,
        };
        receiver.learn(&playing);
        let mut any = false;
        let mut deadline = Instant::now() + limit;
        loop {
            let next = tokio::select! {
                next = timeout_at(deadline, playing.frames.next()) => next,
                coded = receiver.transcoded() => match coded {
                    Ok((picture, media, at)) => {
                        sink.deliver(picture, media, at);
                        continue;
                    }
                    Err(error) => return error,
                },
            };
            let item = match next {
                Ok(Some(Ok(item))) => item,
                Ok(Some(Err(error))) => return self.endpoint.failed(Step::Receive, &error),
                Ok(None) => return self.endpoint.closed(),
                Err(_) if !any && playing.transport == RtspTransport::Udp => return self.endpoint.no_udp(limit),
                Err(_) => return CaptureError::Stalled(limit),
            };
            let frame = match item {
                CodecItem::VideoFrame(frame) => frame,
                CodecItem::AudioFrame(frame) => {
                    if let Some(audio) = &mut playing.audio {
                        audio.take(&frame, &playing.frames, sink);
                    }
                    continue;
                }
                _ => continue,
            };
            any = true;
            deadline = Instant::now() + limit;
            if frame.has_new_parameters() {
                receiver.learn(&playing);
            }
            if let Err(error) = receiver.take(frame, sink) {
                return error;
            }
        }
    }
}

/// A session that has begun to send.
struct Playing {
    frames: Demuxed,
    stream: usize,
    /// `None`: JPEG pictures.
    codec: Option<Codec>,
    audio: Option<Audio>,
    transport: RtspTransport,
    clock_rate: u32,
}

/// From retina's frames to delivered pictures.
struct Receiver<'a> {
    camera: &'a Camera<'a>,
    transcoder: Option<Transcoder>,
    assembler: Assembler<()>,
    continuity: Continuity,
    idr_watch: IdrWatch,
    clock_rate: u32,
}

impl Receiver<'_> {
    /// What comes out of the encoder, where there is one.
    async fn transcoded(&mut self) -> Result<mjpeg::Coded, CaptureError> {
        match &mut self.transcoder {
            Some(transcoder) => transcoder.next().await,
            None => std::future::pending().await,
        }
    }

    /// Retina takes the parameter sets out of the stream, and knows those of the SDP.
    fn learn(&mut self, playing: &Playing) {
        if let Some(ParametersRef::Video(video)) = playing.frames.streams()[playing.stream].parameters()
            && let Some(codec) = playing.codec
        {
            match ParameterSets::from_configuration(codec, video.extra_data()) {
                Ok(sets) => self.assembler.learn(&sets),
                Err(error) => warn!(camera = %self.camera.endpoint, %error, "parameter sets that cannot be used"),
            }
        }
    }

    fn take(&mut self, frame: VideoFrame, sink: &mut Sink) -> Result<(), CaptureError> {
        let at = sink.now();
        let media = Ticks::from_scale(frame.timestamp().elapsed(), self.clock_rate);
        let packets_lost = frame.loss();
        if packets_lost > 0 {
            sink.count_lost(|lost| lost.packets += u64::from(packets_lost));
            self.assembler.lost();
        }
        if let Some(transcoder) = &self.transcoder {
            transcoder.push(frame.into_data(), media, at, sink);
            return Ok(());
        }
        if !self.continuity.follows(media, at.monotonic) {
            info!(camera = %self.camera.endpoint, "the camera's clock jumped: going on at the next IDR");
            self.assembler.lost();
        }
        if let Some(picture) = self.assembler.push_picture(Bytes::from(frame.into_data())) {
            self.idr_watch.delivered(at.monotonic);
            sink.deliver(picture, media, at);
            return Ok(());
        }
        let losses = self.assembler.losses();
        sink.count_lost(|lost| lost.stream = losses);
        self.idr_watch.left_out(at.monotonic, losses, &self.camera.endpoint.to_string())
    }
}

/// What a camera sends instead of what the agent takes, and what to do about it.
fn unsupported(encoding: Option<&str>) -> String {
    let other = "set the encoding of this stream to H.264 in the camera, or use the URL of another of its streams";
    match encoding {
        None => "no video: is this the URL of its audio, or is the video input off?".to_owned(),
        Some("mp4v-es") => format!("MPEG-4 Visual, and the agent takes H.264, H.265 and MJPEG: {other}"),
        Some(name) => {
            let name: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
            format!("video in the encoding '{name}', and the agent takes H.264, H.265 and MJPEG: {other}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_encodings_are_named() {
        for (encoding, says) in [(Some("vp8"), "'vp8'"), (Some("x\ny"), "'xy'"), (None, "no video")] {
            assert!(unsupported(encoding).contains(says), "{encoding:?}");
        }
    }
}
