//! One seed: what goes wrong and when, and what must hold all the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgecam_kvs::{Action, Fault, FaultClass, Report, SessionId};
use edgecam_media::clock::Arrival;
use edgecam_media::ring::Position;
use edgecam_media::{ParameterSets, Ticks, Timestamp};

use crate::agent::{Agent, RING_MOST, picture_id, read_all};
use crate::service::{Mood, Request, Stored};

const STEP: Duration = Duration::from_millis(50);
const FRAME: Duration = Duration::from_millis(200);
/// Faults happen in this time.
const TROUBLE: Duration = Duration::from_secs(90);
/// When they have ended, everything must be persisted within this.
const RECOVERY: Duration = Duration::from_secs(150);
const START: i64 = 1_795_228_575_000;

/// Where the archives are: in memory if the machine has such a place.
pub(crate) fn directory() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    base.join(format!("edgecam-sim-{}", std::process::id()))
}

/// An open connection: what is on its way in both directions.
struct Wire {
    request: Request,
    is_cut: bool,
    /// Bytes the link may carry in the current step.
    credit: usize,
}

struct World {
    rng: fastrand::Rng,
    verbose: bool,
    directory: PathBuf,
    base: Instant,
    elapsed: Duration,
    wall_offset_millis: i64,
    agent: Agent,
    stored: Stored,
    mood: Mood,
    wires: BTreeMap<SessionId, Wire>,
    connecting: Option<(SessionId, Duration)>,
    down_until: Duration,
    slow_until: Duration,
    disk_stalled_until: Duration,
    disk_full_until: Duration,
    camera_off_until: Duration,
    silent_until: Duration,
    drop_acks_until: Duration,
    token_life: Option<Duration>,
    next_picture: u64,
    next_frame: Duration,
    gop_left: u32,
    media_origin: Duration,
    /// Where each picture stands, as the log gave it out.
    placed: BTreeMap<Position, u64>,
    committed: Position,
    initial: Option<Position>,
    /// Ranges that were lost or refused for good.
    given_up: Vec<(Position, Position)>,
    sets: [Arc<ParameterSets>; 2],
}

/// Runs one seed; panics when something does not hold.
pub(crate) fn run(seed: u64, directory: &Path, verbose: bool) {
    let directory = directory.join(format!("{seed}"));
    std::fs::remove_dir_all(&directory).ok();
    let mut world = World::new(seed, directory.clone(), verbose);
    while world.elapsed < TROUBLE {
        world.trouble();
        world.step();
    }
    world.calm();
    let deadline = TROUBLE + RECOVERY;
    while world.elapsed < deadline && !world.is_done() {
        world.step();
    }
    world.check_end();
    std::fs::remove_dir_all(&directory).ok();
}

fn parameter_sets(level: u8) -> Arc<ParameterSets> {
    // x264, 1280x720, High; the level tells the two apart.
    let sps = [
        0x67, 0x64, 0x00, level, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
    ];
    let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
    Arc::new(ParameterSets::h264(Bytes::copy_from_slice(&sps), vec![pps]).expect("valid"))
}

impl World {
    fn new(seed: u64, directory: PathBuf, verbose: bool) -> Self {
        let base = Instant::now();
        let sets = [parameter_sets(31), parameter_sets(40)];
        let agent = Agent::start(&directory, seed, sets[0].clone(), base);
        Self {
            rng: fastrand::Rng::with_seed(seed),
            verbose,
            directory,
            base,
            elapsed: Duration::ZERO,
            wall_offset_millis: 0,
            agent,
            stored: Stored::default(),
            mood: Mood::default(),
            wires: BTreeMap::new(),
            connecting: None,
            down_until: Duration::ZERO,
            slow_until: Duration::ZERO,
            disk_stalled_until: Duration::ZERO,
            disk_full_until: Duration::ZERO,
            camera_off_until: Duration::ZERO,
            silent_until: Duration::ZERO,
            drop_acks_until: Duration::ZERO,
            token_life: None,
            next_picture: 0,
            next_frame: Duration::ZERO,
            gop_left: 0,
            media_origin: Duration::ZERO,
            placed: BTreeMap::new(),
            committed: Position::default(),
            initial: None,
            given_up: Vec::new(),
            sets,
        }
    }

    fn now(&self) -> Instant {
        self.base + self.elapsed
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_unix_millis(START + self.elapsed.as_millis() as i64 + self.wall_offset_millis)
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            #[expect(clippy::print_stderr, reason = "asked for")]
            {
                eprintln!("{:7.2} {}", self.elapsed.as_secs_f64(), what());
            }
        }
    }

    fn soon(&mut self, most_seconds: u64) -> Duration {
        self.elapsed + Duration::from_millis(self.rng.u64(100..most_seconds * 1000))
    }

    /// Rolls the dice: on average something goes wrong every two seconds.
    fn trouble(&mut self) {
        if self.rng.u32(0..40) != 0 {
            return;
        }
        let kind = self.rng.u32(0..16);
        self.say(|| format!("trouble {kind}"));
        match kind {
            0 | 1 => self.wires.values_mut().for_each(|wire| wire.is_cut = true),
            2 => {
                self.down_until = self.soon(20);
                self.wires.values_mut().for_each(|wire| wire.is_cut = true);
            }
            3 => self.silent_until = self.soon(15),
            4 => self.slow_until = self.soon(20),
            5 | 6 => {
                let ids = [
                    4000, 4001, 4002, 4003, 4004, 4005, 4006, 4007, 4008, 4009, 4010, 4011, 4012, 4500, 4507, 5000,
                    5001, 9999,
                ];
                self.mood.error = Some(ids[self.rng.usize(0..ids.len())]);
                self.mood.hides_timecode = self.rng.bool();
            }
            7 => self.token_life = Some(Duration::from_secs(self.rng.u64(30..90))),
            8 => self.wall_offset_millis += self.rng.i64(-20_000..20_000),
            9 => self.wall_offset_millis -= self.rng.i64(0..10_000_000),
            10 => self.disk_full_until = self.soon(15),
            11 => self.disk_stalled_until = self.soon(6),
            12 => self.camera_off_until = self.soon(25),
            13 => self.drop_acks_until = self.soon(10),
            14 => self.crash(),
            _ => {
                let sets = self.sets[self.rng.usize(0..2)].clone();
                self.agent.use_sets(sets);
                self.gop_left = 0;
            }
        }
    }

    fn calm(&mut self) {
        self.mood = Mood::default();
        self.token_life = None;
        let now = self.elapsed;
        for until in [
            &mut self.down_until,
            &mut self.slow_until,
            &mut self.disk_stalled_until,
            &mut self.disk_full_until,
            &mut self.camera_off_until,
            &mut self.silent_until,
            &mut self.drop_acks_until,
        ] {
            *until = now.min(*until);
        }
        self.say(|| "calm".to_owned());
    }

    fn step(&mut self) {
        self.elapsed += STEP;
        self.camera();
        if self.elapsed >= self.disk_stalled_until {
            let free = if self.elapsed < self.disk_full_until { 0 } else { 1 << 40 };
            let (now, wall) = (self.now(), self.wall());
            self.agent.pump(now, wall, free);
        }
        let now = self.now();
        self.mood.is_silent = self.elapsed < self.silent_until;
        self.mood.drops_acks = self.elapsed < self.drop_acks_until;
        self.agent.read(40, now);
        self.network();
        if self.agent.delivery.deadline(now).is_some_and(|at| at <= now) {
            self.agent.delivery.tick(now);
        }
        self.act();
        let held = self.agent.footage.status().ring_bytes;
        assert!(held <= RING_MOST as u64, "{held} bytes in RAM");
    }

    fn camera(&mut self) {
        if self.elapsed < self.camera_off_until {
            self.gop_left = 0;
            self.next_frame = self.elapsed;
            return;
        }
        while self.next_frame <= self.elapsed {
            let is_idr = self.gop_left == 0;
            if is_idr {
                // From an IDR each time up to a GOP that is longer than a fragment may be.
                self.gop_left = match self.rng.u32(0..20) {
                    0 => 75,
                    1 => 1,
                    _ => self.rng.u32(3..12),
                };
            }
            self.gop_left -= 1;
            let size = self.rng.usize(20..if is_idr { 200 } else { 60 });
            let media = Ticks::from_duration(self.next_frame - self.media_origin);
            let at = Arrival { monotonic: self.elapsed, wall: self.wall() };
            self.agent.append(self.next_picture, size, is_idr, media, at);
            let end = self.agent.footage.status().end;
            let position = Position { gop: end.gop, unit: end.unit - 1 };
            self.placed.insert(position, self.next_picture);
            self.initial.get_or_insert(position);
            self.next_picture += 1;
            self.next_frame += FRAME;
        }
    }

    fn network(&mut self) {
        let now = self.now();
        if let Some((id, ready)) = self.connecting
            && self.elapsed >= ready
        {
            self.connecting = None;
            if self.elapsed < self.down_until {
                let fault = Fault::new(FaultClass::Network, "connection refused".to_owned());
                self.agent.delivery.connect_failed(id, fault, now);
            } else {
                let delay = Duration::from_millis(self.rng.u64(10..1500));
                self.wires.insert(id, Wire { request: Request::new(delay), is_cut: false, credit: 0 });
                let expires = self.token_life.map(|life| now + life);
                self.agent.delivery.connected(id, b"POST /putMedia HTTP/1.1\r\n\r\n".to_vec(), expires, now);
            }
        }
        let ids: Vec<SessionId> = self.wires.keys().copied().collect();
        for id in ids {
            let Some(wire) = self.wires.get_mut(&id) else { continue };
            if wire.is_cut {
                self.wires.remove(&id);
                self.agent.delivery.closed(id, "connection reset", now);
                continue;
            }
            wire.credit = if self.mood.is_silent {
                0
            } else if self.elapsed < self.slow_until {
                (wire.credit + 15).min(60)
            } else {
                1 << 20
            };
            let mut taken = Vec::new();
            if let Some(out) = self.agent.delivery.out(id) {
                for bytes in out {
                    let room = wire.credit - taken.len();
                    taken.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    if taken.len() == wire.credit {
                        break;
                    }
                }
            }
            wire.credit -= taken.len();
            wire.request.take(&taken, &mut self.mood, &mut self.stored, now);
            let answer = wire.request.answer(&self.mood, &mut self.stored, now);
            if !taken.is_empty() {
                self.agent.delivery.written(id, taken.len(), now);
            }
            // In pieces of any size.
            let mut rest = &answer[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(self.rng.usize(1..=rest.len()));
                rest = after;
                self.agent.delivery.received(id, piece, now);
            }
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.agent.delivery.poll() {
            match action {
                Action::Connect { session, .. } => {
                    let delay = Duration::from_millis(self.rng.u64(0..400));
                    self.connecting = Some((session, self.elapsed + delay));
                }
                Action::Close(id) => {
                    self.wires.remove(&id);
                    self.connecting = self.connecting.filter(|(other, _)| *other != id);
                }
                Action::Commit(position) => {
                    self.say(|| format!("committed {position:?}"));
                    self.check_commit(position);
                    self.agent.commit(position);
                }
                Action::RequestIdr => self.gop_left = self.gop_left.min(if self.rng.bool() { 0 } else { u32::MAX }),
                Action::Report(Report::Skipped { from, end, .. }) => {
                    self.say(|| format!("skipped {from:?} to {end:?}"));
                    self.given_up.push((from, end));
                }
                Action::Report(report) => self.say(|| format!("{report:?}")),
            }
        }
    }

    /// The machine loses power: what was not synced may be gone, from any byte on.
    fn crash(&mut self) {
        self.wires.clear();
        self.connecting = None;
        let index = self.agent.footage.archive().expect("there is an archive").clone();
        if let Some(newest) = index.segments().last() {
            let length = std::fs::metadata(&newest.path).map_or(0, |metadata| metadata.len());
            let keep = self.rng.u64(0..=length);
            let file = std::fs::OpenOptions::new().write(true).open(&newest.path).expect("the newest segment");
            file.set_len(keep).expect("it can be cut");
            self.say(|| format!("crash; {} of {length} bytes of the newest segment are left", keep));
        }
        let seed = self.rng.u64(..);
        let sets = self.sets[0].clone();
        let now = self.now();
        self.agent = Agent::start(&self.directory, seed, sets, now);
        let index = self.agent.footage.archive().expect("there is an archive");
        // What the disk lost is lost to the stream as well, unless it is there already.
        let kept: std::collections::HashSet<u64> = read_all(index).into_iter().map(|(_, id)| id).collect();
        self.placed.retain(|_, id| kept.contains(id));
        self.committed = self.agent.delivery.committed();
        // What was given up behind the cursor is sent again, or its number now names other footage.
        let committed = self.committed;
        self.given_up.retain(|(_, end)| *end <= committed);
        self.media_origin = self.elapsed;
        self.next_frame = self.elapsed;
        self.gop_left = 0;
    }

    fn is_given_up(&self, position: Position) -> bool {
        self.given_up.iter().any(|(from, end)| (*from..*end).contains(&position))
    }

    /// The cursor is never ahead of what is persisted.
    fn check_commit(&mut self, position: Position) {
        assert!(position >= self.committed, "the cursor went back from {:?} to {position:?}", self.committed);
        let missing = |(at, id): &(&Position, &u64)| !self.stored.pictures.contains_key(id) && !self.is_given_up(**at);
        let missing: Vec<u64> =
            self.placed.range(self.committed..position).filter(missing).map(|(_, id)| *id).collect();
        if !missing.is_empty() {
            // Footage that neither reached the disk nor stayed in RAM is gone; what is on the disk is not.
            let index = self.agent.footage.archive().expect("there is an archive");
            let archived = read_all(index).into_iter().find(|(_, id)| missing.contains(id));
            assert_eq!(archived, None, "committed to {position:?} without this picture, which is in the archive");
        }
        self.committed = position;
    }

    fn is_done(&self) -> bool {
        // A few pictures are always on their way.
        let end = self.agent.footage.status().end;
        self.elapsed > TROUBLE + Duration::from_secs(20) && self.committed.gop + 4 >= end.gop
    }

    fn check_end(&mut self) {
        let end = self.agent.footage.status().end;
        assert!(self.is_done(), "no progress: committed {:?} of {end:?}", self.committed);
        let index = self.agent.footage.archive().expect("there is an archive");
        let initial = self.initial.unwrap_or_default();
        for (position, id) in read_all(index) {
            let is_due = position >= initial && position < self.committed;
            let is_there = self.stored.pictures.contains_key(&id) || self.is_given_up(position);
            assert!(!is_due || is_there, "picture {id} at {position:?} is in the archive and not in the stream");
        }
        for (from, end) in &self.given_up {
            for id in self.placed.range(*from..*end).map(|(_, id)| id) {
                let known = self.stored.refused.contains_key(id) || self.stored.pictures.contains_key(id);
                let is_tail = self.placed.range(*from..*end).any(|(_, id)| self.stored.refused.contains_key(id));
                assert!(
                    known || is_tail,
                    "picture {id}, {from:?} to {end:?}, was given up although the service never refused it"
                );
            }
        }
    }
}

#[test]
fn ids_survive_the_archive() {
    // Guards the simulation itself: an id read back is the one written.
    let unit = edgecam_media::AccessUnit {
        track: edgecam_media::TrackId::VIDEO,
        pts: Timestamp::EPOCH,
        is_idr: true,
        data: Bytes::from_static(&[0, 0, 0, 9, 0x65, 0, 0, 0, 0, 0, 0, 1, 2]),
        parameter_sets: None,
    };
    assert_eq!(picture_id(&unit), 0x102);
}
