//! Power cuts: SIGKILL at any moment, with the service there and away. What was archived stays, reaches the stream in
//! the end, and little of it twice.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::agent::{self, note, text};
use crate::harness::footage::{archived, assert_stored, assert_well_behaved, segments};
use crate::harness::media::{Clip, Packet};
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, poll};

/// Kills of one test; two tests make twenty.
const KILLS: usize = 10;
/// `archive.at_risk` of the camera: pictures wait at most twice as long, and are then written at once.
const AT_RISK: Duration = Duration::from_millis(500);
const GOP: u32 = 15;

fn seed() -> u64 {
    let given = std::env::var_os("EDGECAM_SEED").and_then(|seed| seed.to_str()?.parse().ok());
    given.unwrap_or_else(|| fastrand::u64(..))
}

async fn verify(directory: &Path) -> String {
    let directory = directory.to_string_lossy();
    let output = agent::run(&[], &["archive", "verify", &directory], PATIENCE).await;
    let text = text(&output);
    assert!(output.status.success(), "the archive is damaged: {text}");
    text
}

/// Everything that was there is there still, in order.
fn assert_kept(before: &[Packet], after: &[Packet], what: &str) {
    let kept = after.iter().zip(before).take_while(|(after, before)| after == before).count();
    assert_eq!(kept, before.len(), "{what}: of {} archived pictures {kept} are left", before.len());
}

/// The archive of a killed agent as far as it is whole: what must not be lost any more.
async fn whole(directory: &Path, scratch: &Path) -> Vec<Packet> {
    // The agent's own repair, on a copy.
    let copy = scratch.join("copy");
    std::fs::remove_dir_all(&copy).ok();
    std::fs::create_dir_all(&copy).expect("a directory");
    for segment in segments(directory) {
        let name = segment.file_name().expect("a name");
        std::fs::copy(&segment, copy.join(name)).expect("a copy");
    }
    edgecam::footage::archive::open(&copy).expect("the archive opens");
    archived(&copy).await
}

fn newest(directory: &Path) -> PathBuf {
    segments(directory).pop().expect("a segment")
}

async fn kills(name: &str, is_up: bool) {
    let seed = seed();
    note(&format!("crash::{name}: EDGECAM_SEED={seed}"));
    let mut rng = fastrand::Rng::with_seed(seed);
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new(name, vec![looping(name, &clip)]).await;
    rig.config["cameras"][0]["archive"]["at_risk"] = json!("500ms");
    rig.config["cameras"][0]["archive"]["segment"] = json!("3s");
    let directory = rig.archive(name);
    if !is_up {
        rig.kvs.stop().await.expect("stopped");
    }
    let mut before: Vec<Packet> = Vec::new();
    for round in 0..KILLS {
        let what = format!("seed {seed}, kill {round}");
        rig.start();
        rig.agent().until_state(name, "streaming").await;
        let life = Duration::from_millis(rng.u64(0..4_000));
        let until = Instant::now() + life;
        poll(life, async || (Instant::now() >= until).then_some(())).await;
        let report = rig.agent().report(name).await;
        let at_kill = Instant::now();
        rig.agent.as_mut().expect("started").kill();
        // The last report before the kill, and how old it can be.
        let latest = report.and_then(|report| report["latest"].as_str()?.parse::<jiff::Timestamp>().ok());
        if segments(&directory).is_empty() {
            continue;
        }
        let kept = whole(&directory, rig.scratch.path()).await;
        assert_kept(&before, &kept, &what);
        if let (Some(latest), Some(last)) = (latest, kept.last()) {
            let missing = Duration::from_millis((latest.as_millisecond() - last.ms).max(0) as u64);
            // Written within twice what may be at risk; the rest is for a machine that does other things.
            let most = AT_RISK * 2 + Duration::from_millis(1_000) + at_kill.elapsed() / 10;
            assert!(life < AT_RISK * 3 || missing <= most, "{what} after {life:?}: {missing:?} are missing");
        }
        before = kept;
        // Every other time the power fails while a block is being written.
        if rng.bool() {
            let segment = newest(&directory);
            let length = std::fs::metadata(&segment).expect("its size").len();
            let cut = rng.u64(0..length.min(20_000));
            let file = std::fs::File::options().write(true).open(&segment).expect("it opens");
            file.set_len(length - cut).expect("it is cut");
            before = whole(&directory, rig.scratch.path()).await;
        }
    }
    if !is_up {
        rig.kvs.restart().expect("restarted");
    }
    rig.start();
    rig.agent().until_state(name, "streaming").await;
    rig.caught_up(name, Duration::from_secs(120)).await;
    rig.stop().await;
    let found = verify(&directory).await;
    let archived = archived(&directory).await;
    assert_kept(&before, &archived, &format!("seed {seed}, at the end"));
    assert!(found.contains(&format!("{} frames", archived.len())), "{found}: ffprobe finds {}", archived.len());
    let record = rig.kvs.stream(name);
    assert_well_behaved(&record);
    // What was sent and then cut off the archive is in the stream all the same: numbers go on behind it.
    let (pictures, twice) = assert_stored(&archived, &record);
    let most = KILLS as u32 * 3 * GOP;
    assert!(twice <= most, "seed {seed}: {twice} of {pictures} pictures stored twice, {most} at most");
    if !is_up {
        assert!(twice <= 3 * GOP, "seed {seed}: {twice} of {pictures} pictures stored twice without a service");
    }
}

#[tokio::test]
async fn killed_while_uploading() {
    kills("killed-up", true).await;
}

#[tokio::test]
async fn killed_while_offline() {
    kills("killed-offline", false).await;
}

/// The newest segment is cut at any byte: the agent starts, the rest is there, and new footage follows.
#[tokio::test]
async fn torn_tails() {
    let seed = seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut rig = Rig::new("torn", vec![looping("torn", &Clip::new(10).file().await)]).await;
    let directory = rig.archive("torn");
    for round in 0..6 {
        rig.start();
        rig.agent().until_state("torn", "streaming").await;
        rig.agent().more_frames("torn", 40).await;
        rig.stop().await;
        verify(&directory).await;
        let segment = newest(&directory);
        let others: usize = segments(&directory).len() - 1;
        let length = std::fs::metadata(&segment).expect("its size").len();
        let left = match round {
            0 => 0,
            1 => 1,
            2 => length - 1,
            _ => rng.u64(0..length),
        };
        std::fs::File::options().write(true).open(&segment).expect("it opens").set_len(left).expect("it is cut");
        let kept = whole(&directory, rig.scratch.path()).await;
        rig.start();
        rig.agent().until_state("torn", "streaming").await;
        rig.agent().more_frames("torn", 20).await;
        rig.caught_up("torn", PATIENCE).await;
        rig.stop().await;
        verify(&directory).await;
        let archived = archived(&directory).await;
        assert_kept(&kept, &archived, &format!("seed {seed}: {left} of {length} bytes left"));
        assert!(segments(&directory).len() > others, "seed {seed}: older segments stay");
        assert_stored(&archived, &rig.kvs.stream("torn"));
    }
    assert_well_behaved(&rig.kvs.stream("torn"));
}
