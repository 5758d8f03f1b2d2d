//! Streams by HLS: what is stored is what the segments hold, whatever the playlist does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::footage::{archived_pictures, assert_ends_in_order};
use crate::harness::media::{self, Clip};
use crate::harness::rig::camera;
use crate::harness::{PATIENCE, Rig, Scratch};

/// A live playlist: segments of two seconds appear as time passes.
#[derive(Default)]
struct Live {
    began: Option<Instant>,
    /// Time stands still from this moment for so long.
    stall: Option<(Duration, Duration)>,
    /// From this moment on numbers begin at 0 again.
    restart: Option<Duration>,
    /// Segments that are not there.
    missing: BTreeSet<usize>,
    /// Requests for the playlist.
    reloads: usize,
}

struct Origin {
    directory: PathBuf,
    names: Vec<String>,
    live: Mutex<Live>,
}

/// Serves a directory; `/live.m3u8` as time passes, `/away/...` by a redirect.
async fn serve(directory: &Path, live: Live) -> (u16, Arc<Origin>, JoinSet<()>) {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("seg"))
        .collect();
    names.sort();
    let origin = Arc::new(Origin { directory: directory.to_owned(), names, live: Mutex::new(live) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let router = Router::new().fallback(answer).with_state(origin.clone());
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    (port, origin, serving)
}

async fn answer(State(origin): State<Arc<Origin>>, uri: Uri) -> Response {
    let name = uri.path().trim_start_matches('/');
    if let Some(name) = name.strip_prefix("away/") {
        return Redirect::temporary(&format!("/{name}")).into_response();
    }
    if name == "live.m3u8" {
        return origin.playlist().into_response();
    }
    let is_missing = origin.live.lock().expect("a lock").missing.iter().any(|index| origin.names[*index] == name);
    match std::fs::read(origin.directory.join(name)) {
        Ok(bytes) if !is_missing => bytes.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Origin {
    /// A window of five segments of two seconds, of which three are there at the beginning.
    fn playlist(&self) -> String {
        let mut live = self.live.lock().expect("a lock");
        live.reloads += 1;
        let mut passed = live.began.get_or_insert_with(Instant::now).elapsed();
        if let Some((from, span)) = live.stall.filter(|(from, _)| passed > *from) {
            passed = passed.saturating_sub(span).max(from);
        }
        let end = (passed.as_secs() as usize / 2 + 3).min(self.names.len());
        let first = end.saturating_sub(5);
        let restarted = live.restart.filter(|at| passed > *at).map(|at| at.as_secs() as usize / 2);
        let (sequence, first) = match restarted {
            Some(skipped) => (first.saturating_sub(skipped), first.max(skipped)),
            None => (first, first),
        };
        let head = if self.directory.join("init.mp4").exists() { "#EXT-X-MAP:URI=\"init.mp4\"\n" } else { "" };
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n{head}");
        for name in &self.names[first..end] {
            text += &format!("#EXTINF:2.0,\n{name}\n");
        }
        text
    }
}

/// A clip in segments of two seconds, and the pictures of each.
async fn segmented(clip: Clip, kind: &str, directory: &Path) -> Vec<String> {
    let input = clip.file().await;
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let ending = if kind == "fmp4" { "m4s" } else { "ts" };
    let (input, names) = (text(input), text(directory.join(format!("seg%03d.{ending}"))));
    let playlist = text(directory.join("vod.m3u8"));
    let mut arguments = vec!["-v", "error", "-i", &input, "-c", "copy", "-f", "hls", "-hls_time", "2"];
    arguments.extend(["-hls_list_size", "0", "-hls_playlist_type", "vod", "-hls_segment_type", kind]);
    arguments.extend(["-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", &names, &playlist]);
    media::tool("ffmpeg", &arguments).await;
    media::decoded(Path::new(&playlist)).await
}

fn position(pictures: &[String], of: &str) -> usize {
    pictures.iter().position(|picture| picture == of).expect("it is a picture of the clip")
}

async fn vod(test: &str, clip: Clip, kind: &str, playlist: &str) {
    let scratch = Scratch::new(&format!("{test}-origin"));
    let expected = segmented(clip, kind, scratch.path()).await;
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9000000,CODECS=\"vp09.00\"\nnone.m3u8\n\
                  #EXT-X-STREAM-INF:BANDWIDTH=800000\nvod.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=5\nnone.m3u8\n";
    std::fs::write(scratch.join("master.m3u8"), master).expect("written");
    let (port, _origin, _serving) = serve(scratch.path(), Live::default()).await;
    let url = format!("http://127.0.0.1:{port}/{playlist}");
    let mut rig = Rig::new(test, vec![camera("cam1", "hls", json!({ "url": url }))]).await;
    rig.config["cameras"][0]["archive"]["segment"] = json!("1m");
    rig.start();
    rig.agent().until("cam1", "ended", Duration::from_secs(60), |report| report["state"] == "ended").await;
    rig.stop_and_compare(&["cam1"]).await;
    assert_eq!(archived_pictures(&rig.archive("cam1")).await, expected);
    assert_ends_in_order(&rig.kvs.stream("cam1"));
}

#[tokio::test]
async fn recorded_in_transport_streams_with_b_frames() {
    vod("hls-ts", Clip { b_frames: true, ..Clip::new(9) }, "mpegts", "away/vod.m3u8").await;
}

#[tokio::test]
async fn recorded_in_fragmented_mp4_behind_a_master_playlist() {
    vod("hls-fmp4", Clip::new(9), "fmp4", "master.m3u8").await;
}

#[tokio::test]
async fn recorded_in_h265() {
    vod("hls-h265", Clip { h265: true, ..Clip::new(8) }, "mpegts", "vod.m3u8").await;
}

/// Plays a live stream for so many pictures; what is archived, and what the clip has, by number.
async fn live(test: &str, kind: &str, live: Live, frames: u64) -> (Vec<usize>, Value, usize) {
    let scratch = Scratch::new(&format!("{test}-origin"));
    let expected = segmented(Clip::new(60), kind, scratch.path()).await;
    let (port, origin, _serving) = serve(scratch.path(), live).await;
    let source = json!({ "url": format!("http://127.0.0.1:{port}/live.m3u8"), "stall_timeout": "6s" });
    let mut rig = Rig::new(test, vec![camera("cam1", "hls", source)]).await;
    rig.start();
    let is_all = |report: &Value| report["frames"].as_u64() >= Some(frames);
    let report = rig.agent().until("cam1", "all there", PATIENCE * 2, is_all).await;
    rig.stop_and_compare(&["cam1"]).await;
    let pictures = archived_pictures(&rig.archive("cam1")).await;
    let reloads = origin.live.lock().expect("a lock").reloads;
    (pictures.iter().map(|picture| position(&expected, picture)).collect(), report, reloads)
}

/// Where numbers do not go on by one.
fn jumps(numbers: &[usize]) -> Vec<(usize, usize)> {
    numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).map(|pair| (pair[0], pair[1])).collect()
}

#[tokio::test]
async fn a_live_playlist_is_followed() {
    let (numbers, report, reloads) = live("hls-live", "mpegts", Live::default(), 240).await;
    assert_eq!((jumps(&numbers), report["attempts"].as_u64()), (vec![], Some(1)));
    // 16 s with a target of 2 s: not more often than allowed, and in time for each segment.
    assert!((4..=22).contains(&reloads), "{reloads} reloads");
}

/// One segment is not there: passed over, from IDR to IDR.
#[tokio::test]
async fn a_segment_that_is_missing() {
    let missing = Live { missing: BTreeSet::from([4]), ..Live::default() };
    let (numbers, report, _) = live("hls-missing", "fmp4", missing, 200).await;
    assert_eq!((jumps(&numbers), report["attempts"].as_u64()), (vec![(119, 150)], Some(1)));
}

/// Nothing new for 12 s: stalled, said, and taken up again where it is then.
#[tokio::test]
async fn a_live_playlist_that_stalls() {
    let stall = Live { stall: Some((Duration::from_secs(6), Duration::from_secs(12))), ..Live::default() };
    let (numbers, report, _) = live("hls-stall", "mpegts", stall, 200).await;
    assert!(report["attempts"].as_u64() >= Some(2), "{report:#}");
    assert!(jumps(&numbers).len() <= 2, "{:?}", jumps(&numbers));
}

/// The server begins to count anew.
#[tokio::test]
async fn a_live_playlist_that_restarts() {
    let restart = Live { restart: Some(Duration::from_secs(12)), ..Live::default() };
    let (numbers, report, _) = live("hls-restart", "mpegts", restart, 240).await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    let jumps = jumps(&numbers);
    assert!(jumps.len() <= 1 && numbers.last() > Some(&200), "{jumps:?}, up to {:?}", numbers.last());
}
