//! Live view by RTP on request, whoever asks: a platform over MQTT or a program over HTTP.
//!
//! Where video may go is the config's to say: an SDP that names another address starts nothing.

use std::sync::Arc;

use edgecam_media::Codec;
use edgecam_media::rtp::{RtpTarget, Settings};
use serde_json::json;

use super::dispatch::camera_of;
use super::reply::{Ending, Outcome, failed, rejected};
use crate::config::LiveLimits;
use crate::config::source::Source;
use crate::encode::Control;
use crate::live::rtp::{BitrateWish, RtpSource};
use crate::live::streams::Played;
use crate::topology::CameraHandle;
use crate::web;

/// What is asked of a camera's live view.
#[derive(Clone, PartialEq, Debug)]
pub enum View {
    /// Start a stream, or extend it if it is the one that runs.
    Play(Play),
    /// Go on with a stream.
    Keepalive {
        /// The stream.
        stream_id: String,
    },
    /// End a stream.
    Stop {
        /// The stream; whichever it is with `None`.
        stream_id: Option<String>,
    },
}

/// A stream to be started.
#[derive(Clone, PartialEq, Debug)]
pub struct Play {
    /// What whoever asks calls it.
    pub stream_id: String,
    /// The receiver's SDP.
    pub sdp: String,
    /// Least and most bit/s, within the config's; `None` leaves it at those.
    pub bitrate: (Option<u32>, Option<u32>),
}

/// Does what is asked. `camera` is our name of it.
pub(super) async fn act(shared: &web::Shared, camera: &str, view: &View) -> Ending {
    match view {
        View::Play(play) => match self::play(shared, camera, play).await? {
            Played::Started(started) | Played::Extended(started) => Ok(Some(json!(started))),
        },
        View::Keepalive { stream_id } => {
            let goes_on = {
                let agent = shared.read().await;
                let Some(agent) = agent.as_ref() else { return failed("the agent is stopping") };
                agent.streams().keepalive(agent.config().live_id(camera), stream_id).await
            };
            if goes_on { Ok(None) } else { rejected("the stream does not run") }
        }
        View::Stop { stream_id } => match stop(shared, camera, stream_id.as_deref()).await {
            Some(report) => Ok(Some(json!(report))),
            None => rejected("the stream does not run"),
        },
    }
}

/// Starts a stream.
pub async fn play(shared: &web::Shared, camera: &str, play: &Play) -> Result<Played, (Outcome, String)> {
    // Held until it has begun: no config is applied meanwhile that takes the camera away.
    let agent = shared.read().await;
    let Some(agent) = agent.as_ref() else { return failed("the agent is stopping") };
    let handle = camera_of(agent, camera)?;
    let Some(limits) = agent.config().honeycomb.as_ref().map(|honeycomb| &honeycomb.live) else {
        return rejected("nothing may be sent to anywhere: set honeycomb.allow in the config");
    };
    let codec =
        handle.second().unwrap_or(&handle.footage).status().parameter_sets.map_or(Codec::H264, |sets| sets.codec());
    if codec != Codec::H264 {
        let codec = codec.name();
        return rejected(format!(
            "`{camera}` sends {codec}, and live view by RTP takes H.264: set the camera to H.264"
        ));
    }
    let target = RtpTarget::parse(&play.sdp, &limits.allow).or_else(|error| rejected(error.to_string()))?;
    let settings = settings(&target, limits, play.bitrate);
    let source = source(&handle, settings.bitrate.0);
    if target.has_audio {
        tracing::debug!(camera_name = camera, "audio is asked for and not sent");
    }
    let id = agent.config().live_id(camera);
    let played = agent.streams().play(id, &play.stream_id, source, &target, settings).await;
    played.or_else(|error| failed(format!("no socket to send from: {error}")))
}

/// Ends a stream; its statistics, if it ran.
pub async fn stop(
    shared: &web::Shared,
    camera: &str,
    stream_id: Option<&str>,
) -> Option<crate::live::streams::StreamReport> {
    let agent = shared.read().await;
    let agent = agent.as_ref()?;
    agent.streams().stop(agent.config().live_id(camera), stream_id).await
}

fn settings(target: &RtpTarget, limits: &LiveLimits, wanted: (Option<u32>, Option<u32>)) -> Settings {
    let (least, most) = limits.bitrate;
    // What the SDP says is for the whole of a stream: REMB does not go past it.
    let of_sdp = target.bandwidth.map(|kilobits| kilobits.saturating_mul(1000));
    let most = [of_sdp, wanted.1].into_iter().flatten().fold(most, u32::min).max(least);
    let least = wanted.0.unwrap_or(least).clamp(least, most);
    let LiveLimits { mtu, silence, .. } = *limits;
    Settings { mtu, silence, bitrate: (least, most), ..Settings::new(target, || fastrand::u32(..)) }
}

/// A receiver's wishes go to the encoder where it is ours.
fn source(camera: &CameraHandle, least: u32) -> RtpSource {
    let source: &Source = &camera.config.source;
    let limited = Control { bitrate_limit: Some(least), ..camera.config.switches.encoder };
    let encoder = camera.encoder.clone();
    let wish: BitrateWish = Arc::new(move |limit| encoder.send_modify(|encoder| encoder.bitrate_limit = limit));
    let second = camera.second();
    let is_first = second.is_none();
    RtpSource {
        camera: camera.config.name.clone(),
        footage: second.unwrap_or(&camera.footage).clone(),
        force_idr: (is_first && camera.makes_idrs()).then(|| camera.force_idr.clone()),
        bitrate: (is_first && source.accepts(limited).is_ok()).then_some(wish),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edgecam_media::rtp::{AllowList, Network};

    use super::*;

    #[test]
    fn bitrates_stay_within_all_limits() {
        let allow = AllowList::new(vec!["10.0.0.0/8".parse::<Network>().expect("a network")]);
        let limits = LiveLimits { allow, bitrate: (100_000, 2_000_000), mtu: 600, silence: Duration::from_secs(9) };
        let check = |line: &str, wanted, expected| {
            let sdp = format!("v=0\nc=IN IP4 10.0.0.9\nm=video 5006 RTP/AVP 96\n{line}a=rtpmap:96 H264/90000\n");
            let target = RtpTarget::parse(&sdp, &limits.allow).expect("usable");
            let settings = settings(&target, &limits, wanted);
            assert_eq!((settings.bitrate, settings.mtu), (expected, 600), "{line} {wanted:?}");
            assert_eq!(settings.silence, limits.silence);
        };
        check("", (None, None), (100_000, 2_000_000));
        check("b=AS:800\n", (None, None), (100_000, 800_000));
        check("b=AS:4294967295\n", (None, None), (100_000, 2_000_000));
        check("b=AS:50\n", (None, None), (100_000, 100_000));
        check("", (Some(500_000), Some(1_000_000)), (500_000, 1_000_000));
        check("", (Some(1), Some(u32::MAX)), (100_000, 2_000_000));
        check("b=AS:800\n", (Some(900_000), None), (800_000, 800_000));
    }
}
