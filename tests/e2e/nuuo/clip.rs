//! A clip as a recorder sends it: picture by picture.

use std::path::Path;
use std::sync::Arc;

/// One picture, as NAL units without start codes.
#[derive(Clone)]
pub(crate) struct Unit {
    pub(crate) is_idr: bool,
    sets: Vec<Vec<u8>>,
    slices: Vec<Vec<u8>>,
}

impl Unit {
    /// SPS and PPS in Annex B form.
    pub(crate) fn sets(&self, padded: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for set in &self.sets {
            out.extend([0, 0, 0, 1]);
            out.extend(set);
            if padded && set[0] & 0x1f == 8 {
                out.push(0);
            }
        }
        out
    }

    /// Its slices in Annex B form.
    pub(crate) fn slice(&self) -> Vec<u8> {
        self.slices.iter().flat_map(|slice| [&[0, 0, 0, 1][..], slice].concat()).collect()
    }
}

/// The pictures of an H.264 file whose pictures have one slice each.
pub(crate) fn read(file: &Path) -> Arc<Vec<Unit>> {
    let bytes = std::fs::read(file).expect("the clip");
    let mut starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, window)| *window == [0, 0, 1]).map(|(at, _)| at + 3).collect();
    starts.push(bytes.len() + 3);
    let mut units = Vec::new();
    let mut sets = Vec::new();
    for pair in starts.windows(2) {
        let nal = &bytes[pair[0]..pair[1] - 3];
        let end = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let nal = nal[..end].to_vec();
        match nal[0] & 0x1f {
            7 | 8 => sets.push(nal),
            kind @ (1 | 5) => {
                units.push(Unit { is_idr: kind == 5, sets: std::mem::take(&mut sets), slices: vec![nal] })
            }
            _ => {}
        }
    }
    assert!(units.first().is_some_and(|unit| unit.is_idr && unit.sets.len() == 2), "the clip begins with an IDR");
    Arc::new(units)
}
