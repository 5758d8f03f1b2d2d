//! `ftyp` and `moov`: what the tracks of a segment hold (ISO/IEC 14496-12, -14, -15).

use crate::bmff::{BoxType, BoxWriter, boxes, find};
use crate::{AudioCodec, AudioFormat, Codec, ParameterSets, Timestamp, TrackId};

/// Movie and media timescale.
const TIMESCALE: u32 = 90_000;
/// Identity transformation of `mvhd` and `tkhd` in 16.16 and 2.30 fixed point (section 8.2.2).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// Seconds between 1904 (ISO base media) and 1970 (Unix).
const BMFF_EPOCH_OFFSET: i64 = 2_082_844_800;
/// Bytes of an AudioSampleEntry in front of its boxes (section 12.2.3).
const AUDIO_ENTRY: usize = 28;

/// `ftyp` and `moov` of a segment whose first picture is shown at `start`.
pub fn init_segment(sets: &ParameterSets, start: Timestamp) -> Vec<u8> {
    let created = u64::try_from(start.unix_seconds() + BMFF_EPOCH_OFFSET).unwrap_or(0);
    // visual dimensions are 16 bits in the sample entry and 16.16 in the track header
    let size = (sets.facts().width as u16, sets.facts().height as u16);
    let mut w = BoxWriter::default();
    w.boxed(b"ftyp", |w| {
        w.bytes(b"iso6");
        w.u32(0);
        w.bytes(b"iso6isommp41");
        w.bytes(video_entry(sets.codec()).0);
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
            w.u32(u32::from(TrackId::AUDIO.get()) + 1);
        });
        track(w, TrackId::VIDEO, created, size, |w| {
            media_header(w, b"vide", |w| w.full(b"vmhd", 0, 1, |w| w.zeros(8)), |w| video(w, sets, size));
        });
        if let Some(format) = sets.audio() {
            track(w, TrackId::AUDIO, created, (0, 0), |w| {
                media_header(w, b"soun", |w| w.full(b"smhd", 0, 0, |w| w.zeros(4)), |w| audio(w, format));
            });
        }
        w.boxed(b"mvex", |w| {
            let tracks = [Some(TrackId::VIDEO), sets.audio().map(|_| TrackId::AUDIO)];
            for id in tracks.into_iter().flatten() {
                w.full(b"trex", 0, 0, |w| {
                    w.u32(id.get().into());
                    w.u32(1);
                    w.zeros(12);
                });
            }
        });
    });
    w.finish()
}

fn track(w: &mut BoxWriter, id: TrackId, created: u64, size: (u16, u16), media: impl FnOnce(&mut BoxWriter)) {
    w.boxed(b"trak", |w| {
        // enabled, in movie, in preview
        w.full(b"tkhd", 1, 7, |w| {
            w.u64(created);
            w.u64(created);
            w.u32(id.get().into());
            w.zeros(4 + 8 + 8 + 2 + 2);
            w.u16(if id == TrackId::AUDIO { 0x100 } else { 0 });
            w.u16(0);
            MATRIX.iter().for_each(|&value| w.u32(value));
            w.u32(u32::from(size.0) << 16);
            w.u32(u32::from(size.1) << 16);
        });
        w.boxed(b"mdia", |w| {
            w.full(b"mdhd", 1, 0, |w| {
                w.u64(created);
                w.u64(created);
                w.u32(TIMESCALE);
                w.u64(0);
                w.u16(0x55c4); // language: und
                w.u16(0);
            });
            media(w);
        });
    });
}

/// `hdlr` and `minf`; `kind` is the handler, `header` the media header, `entry` the sample entry.
fn media_header(
    w: &mut BoxWriter,
    kind: &BoxType,
    header: impl FnOnce(&mut BoxWriter),
    entry: impl FnOnce(&mut BoxWriter),
) {
    w.full(b"hdlr", 0, 0, |w| {
        w.u32(0);
        w.bytes(kind);
        w.zeros(12);
        w.bytes(if kind == b"vide" { b"video\0" } else { b"audio\0" });
    });
    w.boxed(b"minf", |w| {
        header(w);
        w.boxed(b"dinf", |w| {
            w.full(b"dref", 0, 0, |w| {
                w.u32(1);
                w.full(b"url ", 0, 1, |_| ());
            });
        });
        w.boxed(b"stbl", |w| {
            w.full(b"stsd", 0, 0, |w| {
                w.u32(1);
                entry(w);
            });
            for table in [b"stts", b"stsc", b"stco"] {
                w.full(table, 0, 0, |w| w.u32(0));
            }
            w.full(b"stsz", 0, 0, |w| w.zeros(8));
        });
    });
}

/// The sample entry of a codec whose parameter sets are in its record (ISO/IEC 14496-15 sections 5.4.2, 8.4.1).
fn video_entry(codec: Codec) -> (&'static BoxType, &'static BoxType) {
    match codec {
        Codec::H264 => (b"avc1", b"avcC"),
        Codec::H265 => (b"hvc1", b"hvcC"),
    }
}

fn video(w: &mut BoxWriter, sets: &ParameterSets, (width, height): (u16, u16)) {
    let (entry, record) = video_entry(sets.codec());
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
}

/// `mp4a` of ISO/IEC 14496-14 section 5.6; `alaw` and `ulaw` of QuickTime, which players know in MP4 too.
fn audio_entry(codec: AudioCodec) -> &'static BoxType {
    match codec {
        AudioCodec::Aac => b"mp4a",
        AudioCodec::PcmA => b"alaw",
        AudioCodec::PcmU => b"ulaw",
    }
}

fn audio(w: &mut BoxWriter, format: &AudioFormat) {
    w.boxed(audio_entry(format.codec()), |w| {
        w.zeros(6);
        w.u16(1);
        w.zeros(8);
        w.u16(format.channels());
        w.u16(16);
        w.zeros(4);
        // 16.16 holds no more than 65,535; the configuration says what it is.
        w.u32(u32::from(u16::try_from(format.sample_rate()).unwrap_or(0)) << 16);
        if format.codec() == AudioCodec::Aac {
            w.full(b"esds", 0, 0, |w| elementary_stream_descriptor(w, format.configuration()));
        }
    });
}

/// ES_Descriptor of ISO/IEC 14496-1 section 7.2.6.5, with sizes of one byte: configurations are short.
fn elementary_stream_descriptor(w: &mut BoxWriter, configuration: &[u8]) {
    let specific = configuration.len() as u8;
    w.bytes(&[3, 3 + 2 + 13 + 2 + specific + 3, 0, TrackId::AUDIO.get(), 0]);
    // DecoderConfigDescriptor: Audio ISO/IEC 14496-3, AudioStream; buffer and bitrates are not said.
    w.bytes(&[4, 13 + 2 + specific, 0x40, 0x15]);
    w.zeros(11);
    w.bytes(&[5, specific]);
    w.bytes(configuration);
    // SLConfigDescriptor: as in MP4 files.
    w.bytes(&[6, 1, 2]);
}

/// What the sample entry of an audio track says; `stsd` is the body of that box. Only what is written here is read.
pub(super) fn read_audio(stsd: &[u8]) -> Option<AudioFormat> {
    let (kind, entry) = boxes(stsd.get(8..)?).next()?;
    let number = |at: usize| entry.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let codec = [AudioCodec::Aac, AudioCodec::PcmA, AudioCodec::PcmU].into_iter().find(|c| *audio_entry(*c) == kind)?;
    if codec != AudioCodec::Aac {
        return Some(AudioFormat::g711(codec, number(24)?.into(), number(16)?));
    }
    let esds = find(entry.get(AUDIO_ENTRY..)?, b"esds")?;
    // Version and flags, the heads of three descriptors.
    let (&size, configuration) = esds.get(4 + 5 + 15 + 1..)?.split_first()?;
    AudioFormat::aac(bytes::Bytes::copy_from_slice(configuration.get(..size.into())?)).ok()
}
