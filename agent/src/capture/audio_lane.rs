//! Audio beside the pictures: stamped by a timeline of its own, and handed on so that the log holds both in the order of
//! their times. What is heard between two IDRs is in the GOP of the first.
//!
//! Bounded: sound for which no picture comes is dropped, the oldest first, and counted.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use edgecam_media::clock::{Arrival, Timeline};
use edgecam_media::{AccessUnit, AudioFormat, ParameterSets, Ticks, Timestamp, TrackId};

/// Sound that waits for its picture at most: pictures of a slow encoder come a second late.
const WAITING_MOST: usize = 512;
const WAITING_BYTES: usize = 1 << 20;
/// Sound this far from the newest picture has lost it: the clock of one was set.
const APART: Ticks = Ticks::from_seconds(4);

/// The audio of one attempt.
pub(super) struct AudioLane {
    format: Arc<AudioFormat>,
    timeline: Timeline,
    waiting: VecDeque<AccessUnit>,
    bytes: usize,
    /// The newest picture.
    shown: Option<Timestamp>,
    last: Option<Timestamp>,
    /// The sets that came last, and the same with the audio in them.
    described: Option<(Arc<ParameterSets>, Arc<ParameterSets>)>,
}

impl AudioLane {
    pub(super) fn new(format: AudioFormat) -> Self {
        Self {
            format: Arc::new(format),
            timeline: Timeline::default(),
            waiting: VecDeque::new(),
            bytes: 0,
            shown: None,
            last: None,
            described: None,
        }
    }

    /// `sets` with the audio track beside them; the same for the same.
    pub(super) fn describe(&mut self, sets: &Arc<ParameterSets>) -> Arc<ParameterSets> {
        if let Some((_, described)) = self.described.as_ref().filter(|(known, _)| Arc::ptr_eq(known, sets)) {
            return described.clone();
        }
        let described = Arc::new((**sets).clone().with_audio(Some(self.format.clone())));
        self.described = Some((sets.clone(), described.clone()));
        described
    }

    /// A picture shown at `pts` is about to go into the log: what is heard before it goes first. The track begins with an
    /// IDR: the GOP before it has none.
    pub(super) fn before_picture(
        &mut self,
        pts: Timestamp,
        is_idr: bool,
        went_back: bool,
        mut append: impl FnMut(AccessUnit),
    ) {
        if went_back {
            self.waiting.clear();
            self.bytes = 0;
            self.last = None;
        }
        while let Some(unit) = self.waiting.pop_front_if(|unit| unit.pts < pts) {
            self.bytes -= unit.data.len();
            if self.shown.is_some() {
                append(unit);
            }
        }
        if self.shown.is_none() && !is_idr {
            return;
        }
        self.shown = Some(if went_back { pts } else { self.shown.map_or(pts, |shown| shown.max(pts)) });
    }

    /// Takes a frame; `media` is its time on the source's audio clock. `append` gets what is not ahead of the pictures.
    /// Returns how many frames were dropped.
    pub(super) fn push(&mut self, data: Bytes, media: Ticks, at: Arrival, append: impl FnOnce(AccessUnit)) -> u64 {
        let mut pts = self.timeline.stamp(media, at, false).pts;
        let apart = |pts: Timestamp| self.shown.is_some_and(|shown| pts.since(shown).get().abs() > APART.get());
        if apart(pts) {
            self.timeline = Timeline::default();
            pts = self.timeline.stamp(media, at, false).pts;
        }
        if data.is_empty() || apart(pts) || self.last.is_some_and(|last| pts <= last) {
            return 1;
        }
        self.last = Some(pts);
        let unit = AccessUnit { track: TrackId::AUDIO, pts, is_idr: false, data, parameter_sets: None };
        if self.shown.is_some_and(|shown| pts <= shown) {
            append(unit);
            return 0;
        }
        self.bytes += unit.data.len();
        self.waiting.push_back(unit);
        let mut dropped = 0;
        while self.waiting.len() > WAITING_MOST || self.bytes > WAITING_BYTES {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.data.len();
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edgecam_media::AudioCodec;

    use super::*;

    const START: i64 = 1_795_228_575_000;

    fn at(millis: i64) -> Arrival {
        let wall = Timestamp::from_unix_millis(START + millis);
        Arrival { monotonic: Duration::from_millis(millis as u64), wall }
    }

    fn lane() -> AudioLane {
        AudioLane::new(AudioFormat::g711(AudioCodec::PcmA, 8000, 1))
    }

    #[test]
    fn sound_goes_between_the_pictures_it_belongs_to() {
        let mut lane = lane();
        let mut log = Vec::new();
        let picture = |lane: &mut AudioLane, log: &mut Vec<i64>, millis: i64| {
            lane.before_picture(at(millis).wall, true, false, |unit| log.push(unit.pts.unix_millis() - START));
            log.push(-millis);
        };
        let sound = |lane: &mut AudioLane, log: &mut Vec<i64>, millis: i64| {
            let data = Bytes::from_static(&[1]);
            let dropped = lane
                .push(data, Ticks::from_millis(millis), at(millis), |unit| log.push(unit.pts.unix_millis() - START));
            assert_eq!(dropped, 0);
        };
        sound(&mut lane, &mut log, 5);
        lane.before_picture(at(8).wall, false, false, |_| panic!("its GOP has no track for it"));
        picture(&mut lane, &mut log, 10);
        sound(&mut lane, &mut log, 25);
        sound(&mut lane, &mut log, 45);
        picture(&mut lane, &mut log, 40);
        picture(&mut lane, &mut log, 80);
        sound(&mut lane, &mut log, 65);
        sound(&mut lane, &mut log, 85);
        picture(&mut lane, &mut log, 120);
        assert_eq!(log, [-10, 25, -40, 45, -80, 65, 85, -120]);
    }

    #[test]
    fn sound_without_pictures_is_bounded_and_one_that_lost_them_is_dropped() {
        let mut lane = lane();
        lane.before_picture(at(0).wall, true, false, |_| panic!("nothing came before"));
        let push = |lane: &mut AudioLane, media: i64, now: i64| {
            lane.push(Bytes::from(vec![0; 100]), Ticks::from_millis(media), at(now), |_| ())
        };
        let dropped: u64 = (1..=3000).map(|index| push(&mut lane, index, index)).sum();
        assert_eq!(dropped, 3000 - WAITING_MOST as u64);
        // The camera's audio clock jumps by an hour: taken up again by its arrival.
        let mut lane = self::lane();
        lane.before_picture(at(1000).wall, true, false, |_| ());
        assert_eq!(push(&mut lane, 1020, 1020), 0);
        assert_eq!(push(&mut lane, 3_601_040, 1040), 0);
        assert_eq!(lane.waiting.back().map(|unit| unit.pts), Some(at(1040).wall));
        assert_eq!(push(&mut lane, 3_601_050, 9_000), 0, "by its own clock it is on time");
    }

    #[test]
    fn the_same_sets_stay_the_same() {
        let sps = [
            0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 1, 0xe0, 0xf1,
            0x83, 0x19, 0x60,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        let sets = Arc::new(ParameterSets::h264(Bytes::copy_from_slice(&sps), vec![pps]).expect("valid"));
        let mut lane = lane();
        let described = lane.describe(&sets);
        assert!(Arc::ptr_eq(&described, &lane.describe(&sets)));
        assert_eq!(described.audio().map(|audio| audio.codec()), Some(AudioCodec::PcmA));
    }
}
