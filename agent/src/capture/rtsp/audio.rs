//! The sound of an RTSP camera: AAC and G.711.

use bytes::Bytes;
use edgecam_media::{AudioCodec, AudioFormat, Ticks};
use retina::client::{Demuxed, Described, Session, Stream};
use retina::codec::{AudioFrame, ParametersRef};
use tracing::warn;

use super::Camera;
use crate::capture::Sink;
use crate::config::source::RtspTransport;

/// An audio stream that was set up.
pub(super) struct Audio {
    stream: usize,
    clock_rate: u32,
    codec: AudioCodec,
    /// The sink knows what comes.
    is_told: bool,
}

fn codec(stream: &Stream) -> Option<AudioCodec> {
    match stream.encoding_name() {
        "mpeg4-generic" => Some(AudioCodec::Aac),
        "pcma" => Some(AudioCodec::PcmA),
        "pcmu" => Some(AudioCodec::PcmU),
        _ => None,
    }
}

impl Camera<'_> {
    /// Sets the first usable audio stream up. Without one, or where the camera refuses, there are pictures only: that is
    /// said, and no reason to have no pictures.
    pub(super) async fn set_up_audio(
        &self,
        session: &mut Session<Described>,
        transport: RtspTransport,
        wanted: bool,
    ) -> Option<Audio> {
        if !wanted {
            return None;
        }
        let camera = self.endpoint;
        let is_audio = |stream: &&Stream| stream.media() == "audio";
        let streams = session.streams();
        let found = streams.iter().enumerate().find_map(|(index, stream)| Some((index, codec(stream)?)));
        let Some((stream, codec)) = found else {
            let sends = streams.iter().find(is_audio).map(Stream::encoding_name);
            warn!(%camera, sends, "the camera has no audio in AAC or G.711: only pictures are recorded");
            return None;
        };
        let clock_rate = streams[stream].clock_rate_hz();
        match self.set_up(session, stream, &[transport]).await {
            Ok(_) => Some(Audio { stream, clock_rate, codec, is_told: false }),
            Err(error) => {
                warn!(%camera, %error, "the camera refuses its audio: only pictures are recorded");
                None
            }
        }
    }
}

impl Audio {
    /// Takes a frame; before the first one what is in it must be known.
    pub(super) fn take(&mut self, frame: &AudioFrame, playing: &Demuxed, sink: &mut Sink) {
        let at = sink.now();
        if frame.stream_id() != self.stream {
            return;
        }
        if !self.is_told {
            let Some(format) = self.format(playing) else { return };
            sink.set_audio(format);
            self.is_told = true;
        }
        if frame.loss() > 0 {
            sink.count_lost(|lost| lost.packets += u64::from(frame.loss()));
        }
        let media = Ticks::from_scale(frame.timestamp().elapsed(), self.clock_rate);
        sink.deliver_audio(Bytes::copy_from_slice(frame.data()), media, at);
    }

    fn format(&self, playing: &Demuxed) -> Option<AudioFormat> {
        let stream = &playing.streams()[self.stream];
        let Some(ParametersRef::Audio(parameters)) = stream.parameters() else { return None };
        match self.codec {
            AudioCodec::Aac => AudioFormat::aac(Bytes::copy_from_slice(parameters.extra_data())).ok(),
            codec => Some(AudioFormat::g711(codec, parameters.clock_rate(), parameters.channels().get())),
        }
    }
}
