//! Which streams run: one for each camera, as the platform's own service has it, and its answers by REST.
//!
//! A stream that has ended stays as what it was until the next one of its camera; there is never more than one entry
//! for a camera.

mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use edgecam_media::Timestamp;
use edgecam_media::rtp::{RtpTarget, Settings};
use futures_util::future::join_all;
use tokio::sync::Mutex;

pub use report::{
    Conflict, Failure, Health, KeepaliveStats, RtpReport, Started, StreamDetail, StreamList, StreamReport,
    StreamSummary, ViewerList, ViewerReport,
};

use super::rtp::{RtpSource, RtpStream, StreamStatus};
use crate::host::wall_clock;

/// All streams, by camera. The caller asks for cameras that exist: that is what bounds it.
#[derive(Default)]
pub struct Streams(Mutex<BTreeMap<String, Entry>>);

struct Entry {
    session_id: String,
    stream_id: String,
    started: Timestamp,
    stopped: Option<Timestamp>,
    error: Option<String>,
    /// The stream, while nobody has stopped it.
    stream: Option<RtpStream>,
    last: StreamStatus,
}

/// What a stream is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamState {
    /// Nothing yet.
    Idle,
    /// It has not sent a picture yet.
    Starting,
    /// It sends.
    Active,
    /// It says goodbye.
    Stopping,
    /// It has ended.
    Stopped,
    /// It could not be started.
    Error,
}

/// What became of a request to play.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Played {
    /// It has begun.
    Started(Started),
    /// It ran already, and goes on.
    Extended(Started),
}

impl StreamState {
    /// The word for it in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

impl Streams {
    /// Starts a camera's stream, or extends it if it is the one that runs. Another one of the same camera is stopped.
    pub async fn play(
        &self,
        camera_id: &str,
        stream_id: &str,
        source: RtpSource,
        target: &RtpTarget,
        settings: Settings,
    ) -> std::io::Result<Played> {
        let mut entries = self.0.lock().await;
        if let Some(entry) = entries.get_mut(camera_id) {
            if let Some(stream) = entry.running().filter(|_| entry.stream_id == stream_id) {
                stream.extend();
                return Ok(Played::Extended(entry.started(camera_id)));
            }
            entry.stop().await;
        }
        let mut entry = Entry::new(camera_id, stream_id);
        let started = RtpStream::start(source, target, settings).await;
        let result = match started {
            Ok(stream) => {
                entry.stream = Some(stream);
                Ok(Played::Started(entry.started(camera_id)))
            }
            Err(error) => {
                entry.error = Some(error.to_string());
                entry.stopped = Some(wall_clock());
                Err(error)
            }
        };
        entries.insert(camera_id.to_owned(), entry);
        result
    }

    /// A camera's stream is still wanted. `false` if it is not the one that runs.
    pub async fn keepalive(&self, camera_id: &str, stream_id: &str) -> bool {
        let entries = self.0.lock().await;
        let entry = entries.get(camera_id).filter(|entry| entry.stream_id == stream_id);
        let stream = entry.and_then(Entry::running);
        stream.map(RtpStream::keepalive).is_some()
    }

    /// Stops a camera's stream, whichever it is or only this one. `None` if it does not run.
    pub async fn stop(&self, camera_id: &str, stream_id: Option<&str>) -> Option<StreamReport> {
        let mut entries = self.0.lock().await;
        let entry = entries.get_mut(camera_id)?;
        if stream_id.is_some_and(|id| id != entry.stream_id) || entry.running().is_none() {
            return None;
        }
        entry.stop().await;
        Some(entry.report(camera_id))
    }

    /// Stops a camera's stream, and forgets it: the camera is gone.
    pub async fn forget(&self, camera_id: &str) {
        if let Some(mut entry) = self.0.lock().await.remove(camera_id) {
            entry.stop().await;
        }
    }

    /// Stops all, at the same time, and forgets them: the agent ends, or cameras have got other ids.
    pub async fn stop_all(&self) {
        let mut entries = std::mem::take(&mut *self.0.lock().await);
        join_all(entries.values_mut().map(Entry::stop)).await;
    }

    /// `GET /streams`: those that run.
    pub async fn list(&self) -> StreamList {
        let entries = self.0.lock().await;
        let running = entries.iter().filter(|(_, entry)| entry.running().is_some());
        let streams: Vec<StreamSummary> = running.map(|(camera_id, entry)| entry.summary(camera_id)).collect();
        StreamList { count: streams.len(), streams }
    }

    /// `GET /streams/{camera}`: the stream of a camera that has or had one.
    pub async fn get(&self, camera_id: &str) -> Option<StreamDetail> {
        let entries = self.0.lock().await;
        let entry = entries.get(camera_id)?;
        let viewers = entry.viewers(camera_id);
        Some(StreamDetail { stream: entry.report(camera_id), viewer_count: viewers.len(), viewers })
    }

    /// `GET /viewers` and `GET /viewers/{camera}`: who receives.
    pub async fn viewers(&self, camera_id: Option<&str>) -> ViewerList {
        let entries = self.0.lock().await;
        let wanted = entries.iter().filter(|(id, _)| camera_id.is_none_or(|wanted| wanted == *id));
        let viewers: Vec<ViewerReport> = wanted.flat_map(|(id, entry)| entry.viewers(id)).collect();
        ViewerList { camera_id: camera_id.map(str::to_owned), count: viewers.len(), viewers }
    }

    /// `GET /health`; `is_well` is how everything else is.
    pub async fn health(&self, is_well: bool) -> Health {
        Health {
            status: if is_well { "healthy" } else { "degraded" },
            timestamp: wall_clock().to_string(),
            active_streams: self.list().await.count,
            total_viewers: self.viewers(None).await.count,
        }
    }
}

impl Entry {
    fn new(camera_id: &str, stream_id: &str) -> Self {
        let short = |id: &str| id.chars().take(8).collect::<String>();
        Self {
            session_id: format!("stream-{}-{}", short(camera_id), short(stream_id)),
            stream_id: stream_id.to_owned(),
            started: wall_clock(),
            stopped: None,
            error: None,
            stream: None,
            last: StreamStatus::default(),
        }
    }

    fn running(&self) -> Option<&RtpStream> {
        self.stream.as_ref().filter(|stream| stream.is_running())
    }

    async fn stop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.last = stream.stop().await;
            self.stopped = Some(self.last.ended_at.unwrap_or_else(wall_clock));
        }
    }

    fn status(&self) -> StreamStatus {
        self.stream.as_ref().map_or(self.last, RtpStream::status)
    }

    fn state(&self) -> StreamState {
        match self.running() {
            _ if self.error.is_some() => StreamState::Error,
            Some(stream) if stream.stats().pictures > 0 => StreamState::Active,
            Some(_) => StreamState::Starting,
            None => StreamState::Stopped,
        }
    }
}
