use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use edgecam_media::TrackId;

use super::archive::retention::Retention;
use super::archive::{Rotation, export};
use super::recorder::Recorder;
use super::*;

const START: i64 = 1_795_228_575_000;

struct Rig {
    directory: PathBuf,
    footage: Footage,
    recorder: Recorder,
    now: Instant,
    sets: Arc<ParameterSets>,
    frame: i64,
}

impl Rig {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("edgecam-footage-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&directory).ok();
        Self::open(directory)
    }

    fn open(directory: PathBuf) -> Self {
        let opened = archive::open(&directory).expect("the archive opens");
        let at_risk = Duration::from_secs(2);
        let bounds = Bounds { keep: 500, most: 100_000 };
        let footage = Footage::new(bounds, opened.next_gop, at_risk, Storage::Archive(opened.index.clone()), None);
        let settings = RecorderSettings {
            camera: "test".to_owned(),
            directory: directory.clone(),
            rotation: Rotation { duration: Duration::from_secs(5), bytes: 1 << 20 },
            retention: Retention::default(),
            at_risk,
        };
        let recorder = Recorder::new(settings, &footage, opened.index);
        let sps = [
            0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
            0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        let sets = ParameterSets::h264(Bytes::copy_from_slice(&sps), vec![pps]).expect("valid");
        Self { directory, footage, recorder, now: Instant::now(), sets: Arc::new(sets), frame: 0 }
    }

    /// GOPs of 5 pictures in a second.
    fn record(&mut self, gops: i64) {
        for _ in 0..gops * 5 {
            let is_idr = self.frame % 5 == 0;
            let mut data = vec![0, 0, 0, 9, if is_idr { 0x65 } else { 0x41 }];
            data.extend_from_slice(&self.frame.to_be_bytes());
            let unit = AccessUnit {
                track: TrackId::VIDEO,
                pts: time(self.frame * 200),
                is_idr,
                data: data.into(),
                parameter_sets: is_idr.then(|| self.sets.clone()),
            };
            self.footage.append(unit, false);
            self.frame += 1;
            self.now += Duration::from_millis(200);
            self.recorder.pump(self.now, time(self.frame * 200), || Ok(u64::MAX), false);
        }
    }

    fn finish(&mut self) {
        self.recorder.finish(self.now, time(self.frame * 200));
    }

    /// The frames from `position` on, as a reader sees them.
    fn frames(&self, mut position: Position) -> Vec<i64> {
        let mut cursor = self.footage.cursor();
        let mut frames = Vec::new();
        while let Some(next) = cursor.try_read(position) {
            match next {
                Next::Unit { unit, next, .. } => {
                    frames.push(i64::from_be_bytes(unit.data[5..13].try_into().expect("8 bytes")));
                    position = next;
                }
                Next::Lagged { resume } => position = resume,
            }
        }
        frames
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.directory).ok();
        }
    }
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(START + millis)
}

#[test]
fn a_reader_never_notices_where_ram_begins() {
    let mut rig = Rig::new("reader");
    rig.record(23);
    assert!(rig.footage.status().ring_bytes < 1000, "most of it is on disk only");
    let all: Vec<i64> = (0..23 * 5).collect();
    assert_eq!(rig.frames(Position::default()), all);
    assert_eq!(rig.frames(Position { gop: 7, unit: 3 }), all[7 * 5 + 3..]);
}

#[test]
fn a_restart_goes_on_behind_what_was_there() {
    let mut rig = Rig::new("restart");
    rig.record(8);
    rig.finish();
    let mut rig = Rig::open(std::mem::take(&mut rig.directory));
    rig.frame = 40;
    rig.record(4);
    assert_eq!(rig.frames(Position::default()), (0..60).collect::<Vec<i64>>());
}

#[test]
fn a_time_leads_to_its_gop() {
    let mut rig = Rig::new("locate");
    rig.record(14);
    let index = rig.footage.archive().expect("there is an archive");
    for (millis, gop) in [(0, 0), (999, 0), (1000, 1), (4_999, 4), (5_000, 5), (7_300, 7), (12_500, 12), (-10, 0)] {
        let found = archive::locate(index, time(millis)).expect("readable");
        assert_eq!(found, Some(Position::start_of(gop)), "{millis} ms");
    }
}

#[test]
fn a_range_is_cut_out_at_gops() {
    let mut rig = Rig::new("export");
    rig.record(14);
    rig.finish();
    let output = rig.directory.join("out.mp4");
    let frames = export::export(&rig.directory, time(3_500), time(7_100), &output).expect("written");
    // From the GOP at 3 s up to the picture at 7.0 s.
    assert_eq!(frames, 4 * 5 + 1);
    let none = export::export(&rig.directory, time(100_000), time(100_001), &rig.directory.join("none.mp4"));
    assert_eq!(none.ok(), Some(0));
}

#[test]
fn a_torn_tail_is_cut_at_any_byte() {
    let mut rig = Rig::new("torn");
    rig.record(4);
    let newest = rig.footage.archive().and_then(|index| index.segments().pop()).expect("a segment");
    let whole = std::fs::read(&newest.path).expect("readable");
    for length in (0..whole.len()).step_by(7) {
        std::fs::write(&newest.path, &whole[..length]).expect("written");
        let opened = archive::open(&rig.directory).expect("opens");
        let segments = opened.index.segments();
        assert_eq!(opened.files_removed + segments.len(), 1, "cut to {length}");
        for segment in segments {
            assert_eq!(export::verify(&segment).expect("readable").problem, None, "cut to {length}");
        }
    }
}
