//! How many samples an MP4 file says it has, before any memory is taken for them.
//!
//! A few bytes can name 4 thousand million samples (`trun` without a field of its own for each, `stsz` with one size for
//! all), and `re_mp4` believes them. So the boxes that count samples are found first, as `re_mp4` finds them.
//!
//! Invariant: each box found lies in the one around it, and is as long as its header at least. `re_mp4` would go on
//! beyond, or round in circles.

use std::io;

use super::FileError;

/// Samples of all tracks of a file at most: two days of 30 pictures a second with sound. A sample costs about 100 bytes of
/// memory.
pub(super) const MOST_IN_FILE: u64 = 10_000_000;
/// Samples of a segment of a stream at most: half an hour of 60 pictures a second.
pub(super) const MOST_IN_SEGMENT: u64 = 100_000;

/// Fails if the file of `size` bytes has more samples than `most`. `read` gives so many bytes from an offset on.
pub(super) fn check(read: impl Fn(u64, usize) -> io::Result<Vec<u8>>, size: u64, most: u64) -> Result<(), FileError> {
    let mut walk = Walk { read, samples: 0, most };
    walk.inside(Kind::File, 0, size)
}

/// A box that holds what is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Moov,
    Trak,
    Mdia,
    Minf,
    Stbl,
    Moof,
    Traf,
}

impl Kind {
    fn child(self, name: &[u8]) -> Option<Self> {
        Some(match (self, name) {
            (Self::File, b"moov") => Self::Moov,
            (Self::File, b"moof") => Self::Moof,
            (Self::Moov, b"trak") => Self::Trak,
            (Self::Trak, b"mdia") => Self::Mdia,
            (Self::Mdia, b"minf") => Self::Minf,
            (Self::Minf, b"stbl") => Self::Stbl,
            (Self::Moof, b"traf") => Self::Traf,
            _ => return None,
        })
    }
}

struct Walk<R> {
    read: R,
    samples: u64,
    most: u64,
}

impl<R: Fn(u64, usize) -> io::Result<Vec<u8>>> Walk<R> {
    /// Goes through the boxes from `at` to `end`, which all belong to one of this kind.
    fn inside(&mut self, kind: Kind, mut at: u64, end: u64) -> Result<(), FileError> {
        while at < end {
            let short = self.u32(at)?;
            let name = self.bytes::<4>(at + 4)?;
            let (header, size) = match short {
                // Up to the end of the file (ISO/IEC 14496-12 section 4.2): nothing is read behind it.
                0 if kind == Kind::File => return Ok(()),
                1 => (16, u64::from_be_bytes(self.bytes(at + 8)?)),
                size => (8, u64::from(size)),
            };
            let behind = at.checked_add(size).filter(|_| size >= header);
            let inner = kind.child(&name);
            let behind = match behind {
                Some(behind) if behind <= end => behind,
                // Media data that is cut short: whether a sample is missing is seen later.
                Some(_) if kind == Kind::File && inner.is_none() => return Ok(()),
                _ if kind == Kind::File => return Err(cut_short()),
                _ => return Err(FileError::Damaged(format!("the box at byte {at} does not fit; is it complete?"))),
            };
            match (kind, &name) {
                (Kind::Traf, b"trun") => self.add(at + header + 4)?,
                (Kind::Stbl, b"stsz") => self.add(at + header + 8)?,
                _ => {}
            }
            if let Some(inner) = inner {
                self.inside(inner, at + header, behind)?;
            }
            at = behind;
        }
        Ok(())
    }

    /// Adds the count that stands there.
    fn add(&mut self, at: u64) -> Result<(), FileError> {
        self.samples += u64::from(self.u32(at)?);
        if self.samples > self.most {
            let what = format!("it says it has more than {} samples; cut it into shorter files", self.most);
            return Err(FileError::Damaged(what));
        }
        Ok(())
    }

    fn u32(&self, at: u64) -> Result<u32, FileError> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn bytes<const N: usize>(&self, at: u64) -> Result<[u8; N], FileError> {
        let bytes = (self.read)(at, N).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_short(),
            _ => FileError::Io(error),
        })?;
        bytes.try_into().map_err(|_| cut_short())
    }
}

fn cut_short() -> FileError {
    FileError::Damaged("it is cut short".to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::mp4::Reader;

    fn boxed(name: &str, content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes()[..], name.as_bytes(), content].concat()
    }

    fn stbl(stsz: &[u8]) -> Vec<u8> {
        ["stbl", "minf", "mdia", "trak", "moov"].iter().fold(boxed("stsz", stsz), |inner, name| boxed(name, &inner))
    }

    fn moof(trun: &[u8]) -> Vec<u8> {
        ["traf", "moof"].iter().fold(boxed("trun", trun), |inner, name| boxed(name, &inner))
    }

    fn error(bytes: Vec<u8>) -> String {
        Reader::of_bytes(Bytes::from(bytes)).err().expect("a refusal").what()
    }

    #[test]
    fn too_many_samples_are_refused() {
        let count = |count: u32| [&[0; 4][..], &count.to_be_bytes()].concat();
        let one_size = |samples: u32| [&[0; 4][..], &9_u32.to_be_bytes(), &samples.to_be_bytes()].concat();
        for bytes in [
            moof(&count(u32::MAX)),
            stbl(&one_size(u32::MAX)),
            // Together.
            [moof(&count(60_000)), boxed("mdat", &[7; 30]), moof(&count(40_001))].concat(),
            [stbl(&one_size(100_000)), moof(&count(1))].concat(),
        ] {
            let found = error(bytes);
            assert!(found.contains("more than 100000 samples"), "{found}");
        }
        let found = error([stbl(&one_size(60_000)), moof(&count(40_000))].concat());
        assert!(!found.contains("samples"), "{found}");
    }

    #[test]
    fn boxes_that_do_not_fit_are_refused() {
        // A box that ends where it begins, and one that goes on behind its parent.
        for size in [0_u8, 7, 9] {
            let found = error(boxed("moof", &[0, 0, 0, size, b'f', b'r', b'e', b'e']));
            assert!(found.contains("the box at byte 8 does not fit"), "{found}");
        }
        // A parent that goes on behind the file: what is in it must not be believed either.
        let mut cut = [boxed("free", &[0; 600]), moof(&[0, 0, 0, 0, 255, 255, 255, 255])].concat();
        cut[611] += 100;
        assert!(error(cut).contains("cut short"));
    }
}
