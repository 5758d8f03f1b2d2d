//! Writes headers; sample bytes go straight from the access units to the file.

use crate::bmff::{BoxType, BoxWriter, HEADER_SIZE};
use crate::{AccessUnit, Codec, ParameterSets, Ticks, Timestamp};

use super::to_ntp;

/// Movie and media timescale.
const TIMESCALE: u32 = 90_000;
/// Identity transformation of `mvhd` and `tkhd` in 16.16 and 2.30 fixed point (section 8.2.2).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// Seconds between 1904 (ISO base media) and 1970 (Unix).
const BMFF_EPOCH_OFFSET: i64 = 2_082_844_800;
/// Sample flags (section 8.8.3.1): a sync sample that depends on no other.
const SYNC: u32 = 0x0200_0000;
/// Sample flags: depends on others, not a sync sample.
const NON_SYNC: u32 = 0x0101_0000;
/// `moof` in `tfra` entries and elsewhere.
const TRACK: u32 = 1;

/// `ftyp` and `moov` of a segment whose first picture is shown at `start`.
pub fn init_segment(sets: &ParameterSets, start: Timestamp) -> Vec<u8> {
    let facts = sets.facts();
    let created = u64::try_from(start.unix_seconds() + BMFF_EPOCH_OFFSET).unwrap_or(0);
    // visual dimensions are 16 bits in the sample entry and 16.16 in the track header
    let (width, height) = (facts.width as u16, facts.height as u16);
    let mut w = BoxWriter::default();
    w.boxed(b"ftyp", |w| {
        w.bytes(b"iso6");
        w.u32(0);
        w.bytes(b"iso6isommp41");
        w.bytes(sample_entry(sets.codec()).0);
    });
    w.boxed(b"moov", |w| {
        w.full(b"mvhd", 1, 0, |w| {
            w.u64(created);
            w.u64(created);
            w.u32(TIMESCALE);
            w.u64(0);
            w.u32(0x1_0000);
            w.u16(0x100);
            w.zeros(10);
            MATRIX.iter().for_each(|&value| w.u32(value));
            w.zeros(24);
            w.u32(TRACK + 1);
        });
        w.boxed(b"trak", |w| {
            // enabled, in movie, in preview
            w.full(b"tkhd", 1, 7, |w| {
                w.u64(created);
                w.u64(created);
                w.u32(TRACK);
                w.zeros(4 + 8 + 8 + 2 + 2 + 2 + 2);
                MATRIX.iter().for_each(|&value| w.u32(value));
                w.u32(u32::from(width) << 16);
                w.u32(u32::from(height) << 16);
            });
            w.boxed(b"mdia", |w| media(w, sets, created, width, height));
        });
        w.boxed(b"mvex", |w| {
            w.full(b"trex", 0, 0, |w| {
                w.u32(TRACK);
                w.u32(1);
                w.zeros(12);
            });
        });
    });
    w.finish()
}

/// The sample entry of a codec whose parameter sets are in its record (ISO/IEC 14496-15 sections 5.4.2, 8.4.1).
fn sample_entry(codec: Codec) -> (&'static BoxType, &'static BoxType) {
    match codec {
        Codec::H264 => (b"avc1", b"avcC"),
        Codec::H265 => (b"hvc1", b"hvcC"),
    }
}

fn media(w: &mut BoxWriter, sets: &ParameterSets, created: u64, width: u16, height: u16) {
    w.full(b"mdhd", 1, 0, |w| {
        w.u64(created);
        w.u64(created);
        w.u32(TIMESCALE);
        w.u64(0);
        w.u16(0x55c4); // language: und
        w.u16(0);
    });
    w.full(b"hdlr", 0, 0, |w| {
        w.u32(0);
        w.bytes(b"vide");
        w.zeros(12);
        w.bytes(b"video\0");
    });
    w.boxed(b"minf", |w| {
        w.full(b"vmhd", 0, 1, |w| w.zeros(8));
        w.boxed(b"dinf", |w| {
            w.full(b"dref", 0, 0, |w| {
                w.u32(1);
                w.full(b"url ", 0, 1, |_| ());
            });
        });
        w.boxed(b"stbl", |w| {
            w.full(b"stsd", 0, 0, |w| {
                w.u32(1);
                let (entry, record) = sample_entry(sets.codec());
                w.boxed(entry, |w| {
                    w.zeros(6);
                    w.u16(1);
                    w.zeros(16);
                    w.u16(width);
                    w.u16(height);
                    w.u32(0x48_0000); // 72 dpi
                    w.u32(0x48_0000);
                    w.u32(0);
                    w.u16(1);
                    w.zeros(32);
                    w.u16(0x18);
                    w.u16(0xffff);
                    w.boxed(record, |w| w.bytes(sets.configuration()));
                });
            });
            for table in [b"stts", b"stsc", b"stco"] {
                w.full(table, 0, 0, |w| w.u32(0));
            }
            w.full(b"stsz", 0, 0, |w| w.zeros(8));
        });
    });
}

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
    pub fn new(number: u32, start: Timestamp, units: &[AccessUnit], next: Option<Timestamp>) -> Self {
        let mut times: Vec<Timestamp> = units.iter().map(|unit| unit.pts).collect();
        times.sort_unstable();
        let first = times.first().copied().unwrap_or(start);
        let base = first.since(start).get().max(0);
        let last_duration = last_duration(&times, next);
        let payload: usize = units.iter().map(|unit| unit.data.len()).sum();
        let starts_gop = units.first().is_some_and(|unit| unit.is_idr);

        let mut w = BoxWriter::default();
        if starts_gop {
            w.full(b"prft", 1, 0, |w| {
                w.u32(TRACK);
                w.u64(to_ntp(first));
                w.u64(base as u64);
            });
        }
        let moof = w.len();
        let mut data_offset = 0;
        w.boxed(b"moof", |w| {
            w.full(b"mfhd", 0, 0, |w| w.u32(number));
            w.boxed(b"traf", |w| {
                // default-base-is-moof
                w.full(b"tfhd", 0, 0x02_0000, |w| w.u32(TRACK));
                w.full(b"tfdt", 1, 0, |w| w.u64(base as u64));
                // data offset, and per sample: duration, size, flags, composition offset
                w.full(b"trun", 1, 0xf01, |w| {
                    w.u32(units.len() as u32);
                    data_offset = w.len();
                    w.u32(0);
                    for (index, unit) in units.iter().enumerate() {
                        let end = times.get(index + 1);
                        let duration = end.map_or(last_duration, |end| end.since(times[index]).get());
                        w.u32(u32::try_from(duration).unwrap_or(u32::MAX));
                        w.u32(unit.data.len() as u32);
                        w.u32(if unit.is_idr { SYNC } else { NON_SYNC });
                        let offset = unit.pts.since(times[index]).get();
                        // Two's complement is what version 1 stores.
                        w.u32(i32::try_from(offset).unwrap_or(0) as u32);
                    }
                });
            });
        });
        let moof_size = w.len() - moof;
        w.patch_u32(data_offset, (moof_size + HEADER_SIZE) as u32);
        w.u32((payload + HEADER_SIZE) as u32);
        w.bytes(b"mdat");
        Self { bytes: w.finish(), moof, payload }
    }
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
            w.u32(TRACK);
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
