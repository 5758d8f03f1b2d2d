//! Connections that break, hang or are refused: nothing that was archived is missing in the stream afterwards, little
//! is sent twice, and no rule of the service is broken on the way.

use std::time::{Duration, Instant};

use kvs_server::{At, Call, Cut, Fault, FaultKind, StreamRecord};

use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, is_long, poll};

/// Pictures in one fragment.
const GOP: u32 = 15;

struct Case {
    name: &'static str,
    kind: FaultKind,
    times: u32,
    /// Fragments that may be stored twice.
    twice: u32,
}

fn case(name: &'static str, kind: FaultKind, times: u32, twice: u32) -> Case {
    Case { name, kind, times, twice }
}

/// Each fault on a camera of its own, all on one agent: each suffers only its own.
async fn check(test: &str, cases: Vec<Case>) {
    let clip = Clip::new(10).file().await;
    let cameras = cases.iter().map(|case| looping(case.name, &clip)).collect();
    let mut rig = Rig::new(test, cameras).await;
    let set = |case: &Case| rig.kvs.fault(Fault::times(case.times, case.kind.clone()).on(case.name));
    let faults: Vec<_> = cases.iter().map(set).collect();
    rig.start();
    for (case, fault) in cases.iter().zip(faults) {
        rig.suffered(fault, case.times, case.name).await;
    }
    let names: Vec<_> = cases.iter().map(|case| case.name).collect();
    rig.all_recovered(&names, 3, PATIENCE).await;
    let compared = rig.stop_and_compare(&names).await;
    for (case, (pictures, twice)) in cases.iter().zip(compared) {
        let limit = case.twice * GOP;
        assert!(twice <= limit, "{}: {twice} of {pictures} pictures stored twice, {limit} at most", case.name);
    }
}

#[tokio::test]
async fn cut_connections() {
    let cut = |at, how| FaultKind::Cut { at, how };
    let inside = At::Fragment { index: 3, bytes: 100 };
    let behind = At::Fragment { index: 2, bytes: 1_000_000 };
    check(
        "cuts",
        vec![
            case("rst-inside", cut(inside, Cut::Reset), 1, 2),
            case("fin-inside", cut(inside, Cut::Fin), 1, 2),
            case("rst-behind", cut(behind, Cut::Reset), 1, 2),
            case("fin-behind", cut(behind, Cut::Fin), 1, 2),
            case("rst-request", cut(At::Request, Cut::Reset), 2, 0),
            case("fin-request", cut(At::Request, Cut::Fin), 2, 0),
            case("rst-header", cut(At::Bytes(10), Cut::Reset), 2, 0),
            case("rst-thrice", cut(inside, Cut::Reset), 3, 6),
        ],
    )
    .await;
}

#[tokio::test]
async fn hanging_connections() {
    let inside = At::Fragment { index: 3, bytes: 100 };
    check(
        "hangs",
        vec![
            case("stall-short", FaultKind::Stall { at: inside, for_ms: 2_500 }, 1, 0),
            case("stall-long", FaultKind::Stall { at: inside, for_ms: 12_000 }, 1, 7),
            case("silent-request", FaultKind::Silent { at: At::Request, read: true }, 2, 0),
            case("silent-unread", FaultKind::Silent { at: inside, read: false }, 2, 4),
            case("unanswered-open", FaultKind::Unanswered { call: Call::PutMedia, close: false }, 2, 0),
            case("unanswered-closed", FaultKind::Unanswered { call: Call::PutMedia, close: true }, 2, 0),
            case("describe-open", FaultKind::Unanswered { call: Call::DescribeStream, close: false }, 1, 0),
            case("endpoint-closed", FaultKind::Unanswered { call: Call::GetDataEndpoint, close: true }, 2, 0),
        ],
    )
    .await;
}

#[tokio::test]
async fn refused_calls() {
    let http = |call, status| FaultKind::Http { call, status, error: None, message: None };
    check(
        "refused",
        vec![
            case("put-500", http(Call::PutMedia, 500), 3, 0),
            case("put-403", http(Call::PutMedia, 403), 2, 0),
            case("put-400", http(Call::PutMedia, 400), 2, 0),
            case("put-429", http(Call::PutMedia, 429), 2, 0),
            case("endpoint-500", http(Call::GetDataEndpoint, 500), 2, 0),
            case("describe-500", http(Call::DescribeStream, 500), 2, 0),
        ],
    )
    .await;
}

/// A role that lacks a permission: the status says which, on what, and that it is for a person to mend.
#[tokio::test]
async fn missing_permission() {
    let clip = Clip::new(10).file().await;
    for (call, action) in [(Call::DescribeStream, "DescribeStream"), (Call::PutMedia, "PutMedia")] {
        let name = format!("forbidden-{action}");
        let mut rig = Rig::new(&name, vec![looping(&name, &clip)]).await;
        let denied =
            FaultKind::Http { call, status: 403, error: Some("AccessDeniedException".to_owned()), message: None };
        rig.kvs.fault(Fault::always(denied));
        rig.start();
        let is_said = |report: &serde_json::Value| report["upload"]["uploader_status"] == "USER_ERROR";
        let report = rig.agent().until(&name, "refused", PATIENCE, is_said).await;
        let details = report["upload"]["details"].as_str().unwrap_or_default();
        // What is called by the SDK names the stream; PutMedia's message stands beside it in the status.
        let resource = if call == Call::PutMedia { "" } else { &name };
        for word in [&format!("kinesisvideo:{action}"), resource, "AccessDeniedException"] {
            assert!(details.contains(word), "{action}: no `{word}` in: {details}");
        }
        rig.kvs.clear_faults();
        rig.caught_up(&name, Duration::from_secs(90)).await;
        rig.stop_and_compare(&[&name]).await;
    }
}

/// The time from the last sign of life of each session that went silent to its end.
fn silences(record: &StreamRecord) -> Vec<u64> {
    let silence = |session: &kvs_server::SessionRecord| {
        let fragments = record.fragments.iter().filter(|fragment| fragment.session == session.id);
        // It goes silent as soon as its second fragment begins.
        let since = fragments.filter(|fragment| fragment.index == 2).map(|fragment| fragment.started_at).next()?;
        Some(session.closed_at?.saturating_sub(since))
    };
    record.sessions.iter().filter(|session| session.disturbed).filter_map(silence).collect()
}

/// A service that takes data and says nothing, twice in a row: each is found out within 5 s.
#[tokio::test]
async fn silent_peers() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("silent", vec![looping("silent", &clip)]).await;
    let kind = FaultKind::Silent { at: At::Fragment { index: 2, bytes: 20 }, read: true };
    let fault = rig.kvs.fault(Fault::times(2, kind).on("silent"));
    rig.start();
    rig.suffered(fault, 2, "silent").await;
    rig.agent().until("silent", "found out", PATIENCE, |report| report["upload"]["silent_peers"] == 2).await;
    rig.more_persisted("silent", 2).await;
    let silences = silences(&rig.kvs.stream("silent"));
    assert!(silences.len() == 2 && silences.iter().all(|ms| *ms <= 5_000), "found out after {silences:?} ms");
    rig.caught_up("silent", PATIENCE).await;
    // What was missed goes at 5 fragments a second, as the service allows: let the newest have its turn.
    rig.more_persisted("silent", 3).await;
    rig.stop_and_compare(&["silent"]).await;
}

/// The service goes away like a killed process and comes back.
#[tokio::test]
async fn outage() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("outage", vec![looping("outage", &clip)]).await;
    rig.start();
    rig.more_persisted("outage", 3).await;
    let attempts = async |rig: &Rig| {
        let report = rig.agent().until("outage", "there", PATIENCE, |_| true).await;
        report["upload"]["attempts"].as_u64().expect("a count")
    };
    let before = attempts(&rig).await;
    rig.kvs.stop().await.expect("stopped");
    // 20 attempts a minute. The first few may come faster: of those a short outage sees as many as a long one.
    let (down, most) = if is_long() { (60, 20) } else { (20, 10) };
    let down = Duration::from_secs(down);
    let began = Instant::now();
    rig.agent().until("outage", "failing", PATIENCE, |report| report["upload"]["state"] == "failing").await;
    poll(down, async || (began.elapsed() >= down).then_some(())).await.expect("time passes");
    let made = attempts(&rig).await - before;
    assert!((2..=most).contains(&made), "{made} attempts in {down:?}");
    let (fragments, returned) = (rig.kvs.stream("outage").fragments.len(), Instant::now());
    rig.kvs.restart().expect("restarted");
    let flows = |record: &StreamRecord| record.fragments.len() > fragments;
    rig.kvs.wait_until("outage", PATIENCE, flows).await.expect("footage flows again");
    assert!(returned.elapsed() < Duration::from_secs(5), "footage flows {:?} after the return", returned.elapsed());
    rig.caught_up("outage", PATIENCE).await;
    let (pictures, twice) = rig.stop_and_compare(&["outage"]).await[0];
    assert!(twice <= 2 * GOP, "{twice} of {pictures} pictures stored twice");
}

/// A link half as fast as the video: the session goes on through it, and catches up behind it.
#[tokio::test]
async fn slow_link() {
    let clip = Clip { noise: Some(2_000_000), ..Clip::new(10) }.file().await;
    let mut rig = Rig::new("slow", vec![looping("slow", &clip)]).await;
    rig.kvs.fault(Fault::always(FaultKind::Throttle { bits_per_second: 1_000_000 }));
    rig.start();
    rig.more_persisted("slow", 10).await;
    let report = rig
        .agent()
        .until("slow", "behind", PATIENCE, |report| report["upload"]["lag_seconds"].as_f64() > Some(8.0))
        .await;
    assert_eq!(rig.kvs.stream("slow").sessions.len(), 1, "it reconnects on a slow link: {report:#}");
    rig.kvs.clear_faults();
    rig.caught_up("slow", PATIENCE).await;
    let (pictures, twice) = rig.stop_and_compare(&["slow"]).await[0];
    let sessions = rig.kvs.stream("slow").sessions.len();
    assert!(sessions <= 2 && twice <= 2 * GOP, "{sessions} sessions; {twice} of {pictures} pictures stored twice");
}
