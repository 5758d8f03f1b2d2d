use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::log::Log;
use super::queue::Unwritten;
use super::*;

const ROOMY: Bounds = Bounds { bytes: 1 << 20, entries: 1000 };

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("edgecam-outbox-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("outbox.log")
    }

    fn open(&self, bounds: Bounds) -> Outbox {
        Outbox::open(&Settings { directory: Some(self.0.clone()), bounds }).expect("a thread")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn body(number: u32, size: usize) -> Bytes {
    let mut body = number.to_string().into_bytes();
    body.resize(size.max(body.len()), b'.');
    Bytes::from(body)
}

fn number(body: &Bytes) -> u32 {
    let text = std::str::from_utf8(body).expect("text");
    text.trim_end_matches('.').parse().expect("a number")
}

async fn take(outbox: &Outbox) -> Option<(Sequence, Bytes)> {
    for _ in 0..2000 {
        match outbox.take() {
            Next::Message(sequence, body) => return Some((sequence, body)),
            Next::Nothing => return None,
            Next::Loading => {
                tokio::time::timeout(Duration::from_millis(100), outbox.changed()).await.ok();
            }
        }
    }
    panic!("still loading: {:?}", outbox.status());
}

/// All that waits, in order; all of it is done then.
async fn drain(outbox: &Outbox) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some((sequence, body)) = take(outbox).await {
        numbers.push(number(&body));
        outbox.done(sequence);
    }
    numbers
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in 10 s: {what}");
}

/// As a killed process leaves it: nobody says good-bye to the thread.
fn copy_as_killed(from: &Scratch) -> Scratch {
    let to = Scratch::new();
    std::fs::copy(from.file(), to.file()).expect("copied");
    to
}

#[tokio::test]
async fn in_order_over_a_kill() {
    let scratch = Scratch::new();
    let outbox = scratch.open(ROOMY);
    (0..50).for_each(|n| outbox.push(Importance::Normal, body(n, 100)));
    for expected in 0..5 {
        let (sequence, taken) = take(&outbox).await.expect("waits");
        assert_eq!(number(&taken), expected);
        outbox.done(sequence);
    }
    outbox.settled().await;
    assert_eq!(outbox.status().not_on_disk, 0);
    let killed = copy_as_killed(&scratch);
    let again = killed.open(ROOMY);
    again.push(Importance::Normal, body(50, 10));
    // What was done before it was written never comes again.
    assert_eq!(drain(&again).await, (5..=50).collect::<Vec<_>>());
    assert_eq!(again.status(), Status::default());
}

#[tokio::test]
async fn what_is_done_on_disk_stays_done() {
    let scratch = Scratch::new();
    let outbox = scratch.open(ROOMY);
    (0..20).for_each(|n| outbox.push(Importance::Normal, body(n, 100)));
    outbox.settled().await;
    for _ in 0..10 {
        let (sequence, _) = take(&outbox).await.expect("waits");
        outbox.done(sequence);
    }
    drop(outbox);
    let left = || Log::open(&scratch.0).expect("opens").left.len();
    until("the thread has written it down", || left() == 10).await;
    assert_eq!(drain(&scratch.open(ROOMY)).await, (10..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_done_soon_is_never_written() {
    let scratch = Scratch::new();
    let outbox = scratch.open(ROOMY);
    until("opened", || scratch.file().exists() && outbox.take() == Next::Nothing).await;
    for n in 0..100 {
        outbox.push(Importance::Normal, body(n, 1000));
        let (sequence, _) = take(&outbox).await.expect("waits");
        outbox.done(sequence);
    }
    tokio::time::sleep(WRITE_AFTER * 2).await;
    assert!(std::fs::metadata(scratch.file()).expect("there").len() < 100);
    // In a hurry everything is.
    outbox.hurry(true);
    outbox.push(Importance::Normal, body(1, 1000));
    until("written", || std::fs::metadata(scratch.file()).is_ok_and(|file| file.len() > 1000)).await;
}

#[tokio::test]
async fn taken_again_after_a_rewind() {
    let outbox = Outbox::open(&Settings { directory: None, bounds: ROOMY }).expect("no thread");
    (0..4).for_each(|n| outbox.push(Importance::Normal, body(n, 10)));
    let (first, _) = take(&outbox).await.expect("waits");
    let (second, _) = take(&outbox).await.expect("waits");
    outbox.done(second);
    outbox.rewind();
    assert_eq!(drain(&outbox).await, [0, 2, 3]);
    outbox.done(first);
}

#[tokio::test]
async fn the_oldest_of_the_least_go_first() {
    use Importance::{High, Low, Normal};
    let bounds = Bounds { bytes: 1 << 20, entries: 5 };
    let outbox = Outbox::open(&Settings { directory: None, bounds }).expect("no thread");
    for (n, importance) in [Normal, High, Low, Normal, Normal, High, Normal, Low].into_iter().enumerate() {
        outbox.push(importance, body(n as u32, 10));
    }
    // 2, then 0, then the newcomer itself.
    assert_eq!(outbox.status().dropped, 3);
    assert_eq!(drain(&outbox).await, [1, 3, 4, 5, 6]);
    let bounds = Bounds { bytes: 1000, entries: 100 };
    let outbox = Outbox::open(&Settings { directory: None, bounds }).expect("no thread");
    (0..30).for_each(|n| outbox.push(Normal, body(n, 100)));
    assert_eq!(drain(&outbox).await, (20..30).collect::<Vec<_>>());
}

/// More than stays in RAM, on a file that is written anew on the way.
#[tokio::test]
async fn a_long_outage_costs_bounded_disk() {
    let scratch = Scratch::new();
    let bounds = Bounds { bytes: 1 << 20, entries: 100_000 };
    let outbox = scratch.open(bounds);
    outbox.hurry(true);
    let mut most = 0;
    for n in 0..6000 {
        outbox.push(if n == 0 { Importance::High } else { Importance::Normal }, body(n, 1000));
        if n % 100 == 0 {
            outbox.settled().await;
            most = most.max(std::fs::metadata(scratch.file()).map_or(0, |file| file.len()));
        }
    }
    outbox.settled().await;
    assert!(most < 3 << 20, "{most} bytes on disk");
    let kept = outbox.status().entries as u32;
    assert!((1000..1050).contains(&kept), "{kept} kept");
    let numbers = drain(&outbox).await;
    let expected: Vec<u32> = std::iter::once(0).chain(6000 - kept + 1..6000).collect();
    assert_eq!(numbers, expected);
    until("the file is empty", || std::fs::metadata(scratch.file()).is_ok_and(|file| file.len() < 100)).await;
}

#[tokio::test]
async fn a_broken_disk_is_said_and_survived() {
    let scratch = Scratch::new();
    std::fs::write(scratch.file(), "somebody else's").expect("written");
    let outbox = scratch.open(ROOMY);
    outbox.push(Importance::Normal, body(1, 10));
    outbox.settled().await;
    assert!(outbox.status().error.is_some_and(|error| error.contains("not an outbox")));
    assert_eq!(drain(&outbox).await, [1]);
    // Mended meanwhile: what an earlier run has left is taken too.
    outbox.push(Importance::Normal, body(3, 10));
    let (_, taken) = take(&outbox).await.expect("waits");
    assert_eq!(number(&taken), 3);
    let other = Scratch::new();
    let left = other.open(ROOMY);
    left.push(Importance::Normal, body(2, 10));
    left.settled().await;
    std::fs::copy(other.file(), scratch.file()).expect("copied");
    until("opened again", || outbox.status().error.is_none()).await;
    assert_eq!(drain(&outbox).await, [2]);
    outbox.rewind();
    assert_eq!(drain(&outbox).await, [3]);
}

fn write(directory: &Path, messages: u32) -> Vec<u64> {
    let mut log = Log::open(directory).expect("opens").log;
    let messages: Vec<Unwritten> = (0..messages)
        .map(|n| Unwritten { sequence: Sequence(n.into()), importance: Importance::Normal, body: body(n, 50) })
        .collect();
    log.append(&messages, &[]).expect("written")
}

#[test]
fn a_torn_tail_is_cut_wherever_it_was_torn() {
    let scratch = Scratch::new();
    let places = write(&scratch.0, 5);
    let whole = std::fs::read(scratch.file()).expect("there");
    for length in 0..=whole.len() {
        std::fs::write(scratch.file(), &whole[..length]).expect("written");
        let opened = Log::open(&scratch.0).expect("opens");
        let expected = places.iter().filter(|place| **place as usize + 50 <= length).count();
        assert_eq!(opened.left.len(), expected, "{length} bytes");
        for (n, placed) in opened.left.iter().enumerate() {
            assert_eq!(number(&opened.log.read(placed).expect("whole")), n as u32);
        }
    }
    // A flipped bit ends it too.
    let mut damaged = whole.clone();
    damaged[places[3] as usize + 7] ^= 1;
    std::fs::write(scratch.file(), &damaged).expect("written");
    let opened = Log::open(&scratch.0).expect("opens");
    assert_eq!((opened.left.len(), opened.cut > 0), (3, true));
}

#[test]
fn noise_is_no_outbox_and_does_not_panic() {
    let scratch = Scratch::new();
    write(&scratch.0, 3);
    let whole = std::fs::read(scratch.file()).expect("there");
    let mut rng = fastrand::Rng::with_seed(17);
    for _ in 0..500 {
        let mut bytes = whole.clone();
        for _ in 0..rng.usize(1..5) {
            let index = rng.usize(17..bytes.len());
            bytes[index] = rng.u8(..);
        }
        std::fs::write(scratch.file(), &bytes).expect("written");
        assert!(Log::open(&scratch.0).expect("opens").left.len() <= 3);
    }
}
