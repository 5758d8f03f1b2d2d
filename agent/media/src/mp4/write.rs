//! Writes headers; sample bytes go straight from the access units to the file.

use crate::bmff::{BoxWriter, HEADER_SIZE};
use crate::{AccessUnit, Ticks, Timestamp, TrackId};

use super::to_ntp;

/// Sample flags (section 8.8.3.1): a sync sample that depends on no other.
const SYNC: u32 = 0x0200_0000;
/// Sample flags: depends on others, not a sync sample.
const NON_SYNC: u32 = 0x0101_0000;

/// What stands in front of a fragment's sample bytes: `prft` where a GOP begins, `moof`, and the header of `mdat`.
pub struct FragmentHead {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where `moof` begins in them.
    pub moof: usize,
    /// Bytes of the samples that must follow.
    pub payload: usize,
}

impl FragmentHead {
    /// For `units`, in decoding order, of a segment that begins at `start`. `next` is when the picture after them is
    /// shown, if that is known: the last one is taken to last until then.
    ///
    /// Samples lie in the file in the order of `units`: each run of one track's is a `trun` of its own.
    pub fn new(number: u32, start: Timestamp, units: &[AccessUnit], next: Option<Timestamp>) -> Self {
        let video = TrackTimes::new(units, TrackId::VIDEO, start, next);
        let audio = TrackTimes::new(units, TrackId::AUDIO, start, None);
        let payload: usize = units.iter().map(|unit| unit.data.len()).sum();

        let mut w = BoxWriter::default();
        if let (Some(first), Some(&earliest)) = (units.first(), video.times.first())
            && first.is_idr
        {
            w.full(b"prft", 1, 0, |w| {
                w.u32(TrackId::VIDEO.get().into());
                w.u64(to_ntp(earliest));
                w.u64(video.base as u64);
            });
        }
        let moof = w.len();
        // Where data offsets stand, and what is to be added to them.
        let mut offsets = Vec::new();
        w.boxed(b"moof", |w| {
            w.full(b"mfhd", 0, 0, |w| w.u32(number));
            for times in [video, audio].iter().filter(|times| !times.times.is_empty()) {
                track_fragment(w, units, times, &mut offsets);
            }
        });
        let moof_size = w.len() - moof;
        for (at, before) in offsets {
            w.patch_u32(at, (moof_size + HEADER_SIZE + before) as u32);
        }
        w.u32((payload + HEADER_SIZE) as u32);
        w.bytes(b"mdat");
        Self { bytes: w.finish(), moof, payload }
    }
}

/// When the samples of one track are decoded.
struct TrackTimes {
    track: TrackId,
    /// Presentation times, ascending: they serve as decoding times.
    times: Vec<Timestamp>,
    /// The first, from the segment's start.
    base: i64,
    last_duration: i64,
}

impl TrackTimes {
    fn new(units: &[AccessUnit], track: TrackId, start: Timestamp, next: Option<Timestamp>) -> Self {
        let mut times: Vec<Timestamp> = units.iter().filter(|unit| unit.track == track).map(|unit| unit.pts).collect();
        times.sort_unstable();
        let base = times.first().map_or(0, |first| first.since(start).get().max(0));
        let last_duration = last_duration(&times, next);
        Self { track, times, base, last_duration }
    }
}

fn track_fragment(w: &mut BoxWriter, units: &[AccessUnit], times: &TrackTimes, offsets: &mut Vec<(usize, usize)>) {
    let TrackTimes { track, times, base, last_duration } = times;
    w.boxed(b"traf", |w| {
        // default-base-is-moof
        w.full(b"tfhd", 0, 0x02_0000, |w| w.u32(track.get().into()));
        w.full(b"tfdt", 1, 0, |w| w.u64(*base as u64));
        let mut index = 0;
        let mut before = 0;
        for run in units.chunk_by(|a, b| a.track == b.track) {
            if run[0].track == *track {
                // data offset, and per sample: duration, size, flags, composition offset
                w.full(b"trun", 1, 0xf01, |w| {
                    w.u32(run.len() as u32);
                    offsets.push((w.len(), before));
                    w.u32(0);
                    for unit in run {
                        let end = times.get(index + 1);
                        let duration = end.map_or(*last_duration, |end| end.since(times[index]).get());
                        w.u32(u32::try_from(duration).unwrap_or(u32::MAX));
                        w.u32(unit.data.len() as u32);
                        w.u32(if unit.is_idr || !unit.is_video() { SYNC } else { NON_SYNC });
                        let offset = unit.pts.since(times[index]).get();
                        // Two's complement is what version 1 stores.
                        w.u32(i32::try_from(offset).unwrap_or(0) as u32);
                        index += 1;
                    }
                });
            }
            before += run.iter().map(|unit| unit.data.len()).sum::<usize>();
        }
    });
}

/// Until the next picture where that is known and near, else as long as the ones before on average, else 1/25 s.
fn last_duration(times: &[Timestamp], next: Option<Timestamp>) -> i64 {
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return 0 };
    let shown = next.map(|next| next.since(last)).filter(|span| *span > Ticks::ZERO && *span < Ticks::from_seconds(60));
    match shown {
        Some(span) => span.get(),
        None if times.len() > 1 => last.since(first).get() / (times.len() as i64 - 1),
        None => Ticks::from_millis(40).get(),
    }
}

/// One GOP of a segment, for its index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RandomAccessEntry {
    /// 90 kHz ticks from the segment's start to the GOP's first picture.
    pub time: u64,
    /// Where its `moof` begins in the file.
    pub moof: u64,
}

/// `mfra`, which ends a finished segment (section 8.8.9).
pub fn random_access_box(entries: &[RandomAccessEntry]) -> Vec<u8> {
    let mut w = BoxWriter::default();
    w.boxed(b"mfra", |w| {
        w.full(b"tfra", 1, 0, |w| {
            w.u32(TrackId::VIDEO.get().into());
            w.u32(0); // one byte each for the traf, trun and sample number
            w.u32(entries.len() as u32);
            for entry in entries {
                w.u64(entry.time);
                w.u64(entry.moof);
                w.bytes(&[1, 1, 1]);
            }
        });
        let size = w.len() + 16;
        w.full(b"mfro", 0, 0, |w| w.u32(size as u32));
    });
    w.finish()
}
