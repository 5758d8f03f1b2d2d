//! Continuous upload: everything, in the order the config asks for.
//!
//! KVS takes one connection a stream, and timestamps inside a connection only rise. So history cannot go beside live
//! footage; with `live_first` the two take turns.

use std::time::{Duration, Instant};

use edgecam_media::Ticks;
use edgecam_media::ring::Position;
use tokio_util::sync::CancellationToken;

use super::driver::{Driver, Outcome, TargetCache, Until};
use super::ledger::Ledger;
use super::task::{Kept, Upload};
use crate::config::UploadOrder;

/// A turn of live footage, at least; longer when it has to catch up first.
const LIVE_TURN: Duration = Duration::from_secs(5);
/// A turn of history: for so long live footage stands still.
const HISTORY_TURN: Duration = Duration::from_secs(10);

/// Uploads until `cancel` is called, and drains.
pub(super) async fn run(upload: &Upload, target: &mut TargetCache, cancel: &CancellationToken) {
    let (mut kept, mut ledger) = begin(upload);
    let mut is_lives_turn = true;
    while !cancel.is_cancelled() {
        if upload.footage.archive().is_some() && !kept.is_open() {
            // The disk came late. What an earlier run left there is older than all of this run.
            let older;
            (kept, older) = Kept::open(upload);
            ledger.step_back();
            if let Some(older) = Ledger::restore(&older) {
                ledger.put_before(&older, Position::start_of(upload.first_gop));
            }
            kept.save(upload, &ledger.positions());
        }
        upload.footage.set_sent(Some(ledger.oldest()));
        upload.status.gaps(ledger.gaps().len());
        let gap = ledger.gaps().first().copied();
        let is_history = gap.is_some() && (upload.order == UploadOrder::InOrder || !is_lives_turn);
        let (start, until) = match gap.filter(|_| is_history) {
            Some(gap) => (gap.from, history(gap.end, upload.order)),
            None => (ledger.live(), live(&ledger, upload.order)),
        };
        let commit = |position: Position| {
            match is_history {
                true => ledger.commit_gap(position),
                false => ledger.commit_live(position),
            }
            upload.footage.set_sent(Some(ledger.oldest()));
            kept.save(upload, &ledger.positions());
        };
        let driver = Driver::new(upload, target, start);
        let outcome = Box::pin(turn(upload, driver, until, cancel, commit)).await;
        is_lives_turn = is_history || outcome == Outcome::Behind;
        if outcome == Outcome::Behind {
            let to = upload.footage.live();
            tracing::warn!(
                camera_name = upload.camera,
                from = ledger.live().gop,
                to = to.gop,
                "live goes first: older footage is sent later"
            );
            ledger.jump(to);
            kept.save(upload, &ledger.positions());
        }
    }
}

/// Runs one turn; it is over, too, when the archive that was awaited comes.
async fn turn(
    upload: &Upload,
    driver: Driver<'_>,
    until: Until,
    cancel: &CancellationToken,
    commit: impl FnMut(Position),
) -> Outcome {
    let over = cancel.child_token();
    let run = driver.run(until, &over, commit);
    tokio::pin!(run);
    tokio::select! {
        outcome = &mut run => outcome,
        () = upload.footage.attached() => {
            over.cancel();
            run.await
        }
    }
}

/// Writes down from where on footage is to be sent, long before it may be.
pub(super) fn mark(upload: &Upload) {
    let (_, ledger) = begin(upload);
    upload.footage.set_sent(Some(ledger.oldest()));
}

fn begin(upload: &Upload) -> (Kept, Ledger) {
    let (mut kept, positions) = Kept::open(upload);
    let ledger = Ledger::restore(&positions).unwrap_or_else(|| {
        // Kept at once: what is recorded from here on is to be sent, even if nothing is persisted before a crash.
        let ledger = Ledger::new(upload.footage.live());
        kept.save(upload, &ledger.positions());
        ledger
    });
    (kept, ledger)
}

fn history(end: Position, order: UploadOrder) -> Until {
    let turn = (order != UploadOrder::InOrder).then(|| Instant::now() + HISTORY_TURN);
    Until { position: Some(end), turn, ..Until::default() }
}

fn live(ledger: &Ledger, order: UploadOrder) -> Until {
    let UploadOrder::LiveFirst { max_lag } = order else { return Until::default() };
    Until {
        max_lag: ledger.may_jump().then(|| Ticks::from_duration(max_lag)),
        turn: (!ledger.gaps().is_empty()).then(|| Instant::now() + LIVE_TURN),
        is_live: true,
        ..Until::default()
    }
}
