//! Acknowledgements that say no, do not come, or are not as they should be.

use std::time::Duration;

use edgecam_kvs::{Disposition, ErrorId};
use kvs_server::{AckKind, Fault, FaultKind, Malformed};
use serde_json::Value;

use crate::harness::footage::{archived, assert_stored, assert_well_behaved, stored};
use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig};

/// What the service cannot take is left out and said; everything else gets there in the end.
#[tokio::test]
async fn error_ids() {
    let ids: Vec<u32> = ErrorId::known().map(|id| id.0).chain([4999]).collect();
    let name = |id: u32| format!("error-{id}");
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("errors", ids.iter().map(|id| looping(&name(*id), &clip)).collect()).await;
    let mut faults = Vec::new();
    for &id in &ids {
        let kind = FaultKind::ErrorAck { id: kvs_server::ErrorId(id as u16), fragment: 2 };
        faults.push(rig.kvs.fault(Fault::once(kind).on(name(id))));
    }
    rig.start();
    for (&id, fault) in ids.iter().zip(faults) {
        rig.suffered(fault, 1, &name(id)).await;
    }
    let names: Vec<_> = ids.iter().map(|id| name(*id)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let reports = rig.all_recovered(&names, 3, PATIENCE).await;
    rig.stop().await;
    for (&id, report) in ids.iter().zip(reports) {
        let (name, disposition) = (name(id), ErrorId(id).disposition());
        let record = rig.kvs.stream(&name);
        assert_well_behaved(&record);
        let mut archived = archived(&rig.archive(&name)).await;
        let skipped = report["upload"]["fragments_skipped"].as_u64();
        assert_eq!(skipped, Some(u64::from(disposition == Disposition::Skip)), "{name}: {report:#}");
        if disposition == Disposition::Skip {
            // The second GOP, and nothing else.
            let left_out: Vec<_> = archived.drain(15..30).collect();
            let is_there =
                |hash: &str, ms: i64| stored(&record).iter().any(|(p, _)| p.hash == hash && (p.ms - ms).abs() <= 2);
            assert!(!left_out.iter().any(|packet| is_there(&packet.hash, packet.ms)), "{name}: the fragment is there");
            let sent = record.fragments.iter().filter(|fragment| fragment.error.is_some()).count();
            assert_eq!(sent, 1, "{name}: what was refused is not sent again");
        }
        let (_, twice) = assert_stored(&archived, &record);
        assert!(twice <= 15, "{name}: {twice} pictures stored twice");
    }
}

struct Case {
    name: &'static str,
    kind: FaultKind,
    /// One session has to do.
    in_one: bool,
    /// Fragments that may be stored twice.
    twice: u32,
}

/// The fault lasts for ten fragments or the whole of the first session, whichever is shorter; then it is over.
async fn check(test: &str, cases: Vec<Case>) {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new(test, cases.iter().map(|case| looping(case.name, &clip)).collect()).await;
    for case in &cases {
        rig.kvs.fault(Fault::once(case.kind.clone()).on(case.name));
    }
    rig.start();
    for case in &cases {
        rig.kvs.wait_persisted(case.name, 10, PATIENCE).await.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let sessions = rig.kvs.stream(case.name).sessions.len();
        assert!(!case.in_one || sessions == 1, "{}: {sessions} sessions", case.name);
    }
    rig.kvs.clear_faults();
    let names: Vec<_> = cases.iter().map(|case| case.name).collect();
    rig.all_recovered(&names, 3, PATIENCE).await;
    // What was not acknowledged is given up after 30 s and sent again: the cursor does not stand still.
    for name in &names {
        let is_settled = |report: &Value| report["upload"]["fragments_in_flight"].as_u64() <= Some(3);
        rig.agent().until(name, "settled", Duration::from_secs(45), is_settled).await;
    }
    rig.all_recovered(&names, 1, PATIENCE).await;
    let compared = rig.stop_and_compare(&names).await;
    for (case, (pictures, twice)) in cases.iter().zip(compared) {
        let limit = case.twice * 15;
        assert!(twice <= limit, "{}: {twice} of {pictures} pictures stored twice, {limit} at most", case.name);
    }
}

#[tokio::test]
async fn missing_acks() {
    let drop = |name, kind, in_one, twice| Case { name, kind: FaultKind::DropAcks { kind }, in_one, twice };
    check(
        "missing-acks",
        vec![
            Case { name: "no-acks", kind: FaultKind::NoAcks, in_one: false, twice: 7 },
            Case { name: "late-acks", kind: FaultKind::DelayAcks { ms: 2_000 }, in_one: true, twice: 0 },
            drop("no-buffering", AckKind::Buffering, true, 0),
            drop("no-received", AckKind::Received, true, 0),
            // Until it is found out after 30 s, all that was sent is in flight.
            drop("no-persisted", AckKind::Persisted, false, 45),
            drop("no-idle", AckKind::Idle, true, 0),
        ],
    )
    .await;
}

#[tokio::test]
async fn malformed_acks() {
    let all = [
        ("split-chunks", Malformed::SplitChunks, true),
        ("split-segments", Malformed::SplitSegments, true),
        ("coalesced", Malformed::Coalesced, true),
        ("no-timecode", Malformed::NoTimecode, false),
        ("negative-timecode", Malformed::NegativeTimecode, false),
        ("unknown-event", Malformed::UnknownEvent, true),
        ("unknown-fields", Malformed::UnknownFields, true),
        ("numeric-number", Malformed::NumericFragmentNumber, true),
        ("garbage", Malformed::Garbage, true),
        ("wrapped", Malformed::Wrapped, true),
    ];
    let case = |(name, how, in_one)| Case {
        name,
        kind: FaultKind::MalformedAcks { how, kind: None },
        in_one,
        twice: if in_one { 0 } else { 45 },
    };
    check("malformed-acks", all.map(case).into()).await;
}

/// The error that ends a session is not told either.
#[tokio::test]
async fn untold_error() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("untold", vec![looping("untold", &clip)]).await;
    rig.kvs.fault(Fault::once(FaultKind::DropAcks { kind: AckKind::Error }));
    let error = FaultKind::ErrorAck { id: kvs_server::ErrorId(5000), fragment: 3 };
    let fault = rig.kvs.fault(Fault::once(error));
    rig.start();
    rig.suffered(fault, 1, "untold").await;
    rig.more_persisted("untold", 3).await;
    rig.caught_up("untold", PATIENCE).await;
    rig.stop_and_compare(&["untold"]).await;
}

/// What only a person can mend: the status says so, nothing is skipped, and all is sent once it is mended.
#[tokio::test]
async fn held_footage() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("held", vec![looping("held", &clip)]).await;
    rig.kvs.fault(Fault::always(FaultKind::ErrorAck { id: kvs_server::ErrorId(4500), fragment: 1 }));
    rig.start();
    let failing = |report: &Value| report["upload"]["state"] == "failing";
    let report = rig.agent().until("held", "failing", PATIENCE, failing).await;
    let details = report["upload"]["details"].as_str().unwrap_or_default();
    assert!(details.contains("KMS_KEY_ACCESS_DENIED") && details.contains("4500"), "{report:#}");
    rig.kvs.clear_faults();
    rig.more_persisted("held", 2).await;
    rig.caught_up("held", PATIENCE).await;
    rig.stop_and_compare(&["held"]).await;
    assert_eq!(report["upload"]["uploader_status"], "USER_ERROR", "{report:#}");
}
