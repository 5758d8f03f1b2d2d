//! From a segment's bytes to pictures with times: MPEG transport streams and fragmented MP4, told by their content.

use bytes::Bytes;
use edgecam_media::Ticks;
use edgecam_media::assembler::{Assembler, Losses, Picture};
use edgecam_media::mpeg_ts::{Demuxer, Unwrapper};

use crate::capture::file::{FileError, mp4};

/// What is kept from one segment to the next.
#[derive(Default)]
pub(super) struct Segments {
    assembler: Option<Assembler<Ticks>>,
    transport: Demuxer,
    unwrapper: Unwrapper,
}

/// A picture, and when it is shown on the stream's own clock.
pub(super) type Timed = (Picture, Ticks);

impl Segments {
    /// The pictures of a segment, in decoding order. `head` is what fragmented MP4 needs in front.
    pub(super) fn pictures(&mut self, head: Option<Bytes>, segment: Bytes) -> Result<Vec<Timed>, String> {
        if segment.first() == Some(&0x47) {
            return self.of_transport_stream(&segment);
        }
        let whole = match head {
            Some(head) => Bytes::from([&head[..], &segment].concat()),
            None => segment,
        };
        self.of_mp4(whole)
    }

    /// The next segment does not continue this one, or something between them is missing.
    pub(super) fn interrupted(&mut self) {
        self.transport = Demuxer::default();
        self.unwrapper = Unwrapper::default();
        if let Some(assembler) = &mut self.assembler {
            assembler.lost();
        }
    }

    pub(super) fn losses(&self) -> Losses {
        self.assembler.as_ref().map(Assembler::losses).unwrap_or_default()
    }

    fn of_transport_stream(&mut self, segment: &[u8]) -> Result<Vec<Timed>, String> {
        let mut packets = Vec::new();
        self.transport.push(segment, |pes| packets.push(pes));
        self.transport.finish(|pes| packets.push(pes));
        let Some(codec) = self.transport.codec() else {
            return Err(match self.transport.unknown() {
                Some(kind) => format!("a transport stream with video of the type {kind:#x}, not H.264 or H.265"),
                None => "a transport stream without a program".to_owned(),
            });
        };
        let assembler = match &mut self.assembler {
            Some(assembler) if assembler.codec() == codec => assembler,
            other => other.insert(Assembler::new(codec)),
        };
        let mut pictures = Vec::new();
        for pes in packets {
            if pes.follows_loss {
                assembler.lost();
            }
            // Without a time of its own it goes on from the last one (section 2.7.4 of ISO/IEC 13818-1).
            let pts = pes.pts.map(|pts| self.unwrapper.unwrap(pts));
            let last = pictures.last().map_or(0, |(_, pts): &Timed| pts.get());
            let pts = Ticks::new(pts.unwrap_or(last + 3000));
            assembler.push_annex_b(&pes.data, pts, |picture, pts| pictures.push((picture, pts)));
        }
        let end = pictures.last().map_or(Ticks::ZERO, |(_, pts)| *pts);
        assembler.finish(end, |picture, pts| pictures.push((picture, pts)));
        Ok(pictures)
    }

    fn of_mp4(&mut self, whole: Bytes) -> Result<Vec<Timed>, String> {
        let named = |error: FileError| error.what();
        let mut reader = mp4::Reader::of_bytes(whole).map_err(named)?;
        let sets = reader.parameter_sets();
        let assembler = match &mut self.assembler {
            Some(assembler) if assembler.codec() == sets.codec() => assembler,
            other => other.insert(Assembler::new(sets.codec())),
        };
        assembler.learn(sets);
        let mut pictures = Vec::new();
        while let Some((data, pts)) = reader.next_sample().map_err(named)? {
            pictures.extend(assembler.push_picture(data).map(|picture| (picture, pts)));
        }
        Ok(pictures)
    }
}
