//! Builds the Matroska that a producer sends, right or wrong, byte by byte.

/// An IDR access unit: SPS and slice would be longer, but this is what a parser looks at.
pub(crate) const IDR: &[u8] = &[0, 0, 0, 2, 0x09, 0x10, 0, 0, 0, 5, 0x65, 0x88, 0x84, 0x00, 0x33];
/// A predicted picture.
pub(crate) const NON_IDR: &[u8] = &[0, 0, 0, 4, 0x41, 0x9A, 0x24, 0x6C];

/// A well-formed avcC of Constrained Baseline.
pub(crate) fn avcc() -> Vec<u8> {
    let (sps, pps): (&[u8], &[u8]) = (&[0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x47], &[0x68, 0xCB, 0x83, 0xCB]);
    let length = |set: &[u8]| u16::try_from(set.len()).expect("short").to_be_bytes();
    [&[1, 0x42, 0xC0, 0x1E, 0xFF, 0xE1], length(sps).as_slice(), sps, &[1], &length(pps), pps].concat()
}

/// An element: id, then 8-byte size, or the 1-byte unknown size without content.
pub(crate) fn element(id: u32, content: Option<&[u8]>) -> Vec<u8> {
    let id: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
    match content {
        None => [id, vec![0xFF]].concat(),
        Some(content) => [id, (content.len() as u64 | 1 << 56).to_be_bytes().to_vec(), content.to_vec()].concat(),
    }
}

fn master(id: u32, children: &[Vec<u8>]) -> Vec<u8> {
    element(id, Some(&children.concat()))
}

fn unsigned(id: u32, value: u64) -> Vec<u8> {
    element(id, Some(&value.to_be_bytes()))
}

fn text(id: u32, value: &str) -> Vec<u8> {
    element(id, Some(value.as_bytes()))
}

/// Header fields, and what comes after the header.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) doc_type: String,
    pub(crate) segment_size: Vec<u8>,
    pub(crate) timecode_scale: Option<u64>,
    pub(crate) tracks: u64,
    pub(crate) codec_private: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            doc_type: "matroska".to_owned(),
            segment_size: vec![0xFF],
            timecode_scale: Some(1_000_000),
            tracks: 1,
            codec_private: avcc(),
            body: Vec::new(),
        }
    }
}

#[allow(dead_code, reason = "each test binary uses its part")]
impl Sample {
    pub(crate) fn header(&self) -> Vec<u8> {
        let ebml = master(
            0x1A45_DFA3,
            &[
                unsigned(0x4286, 1),
                unsigned(0x42F7, 1),
                unsigned(0x42F2, 4),
                unsigned(0x42F3, 8),
                text(0x4282, &self.doc_type),
                unsigned(0x4285, 2),
            ],
        );
        let info = master(
            0x1549_A966,
            &[self.timecode_scale.map_or_else(Vec::new, |scale| unsigned(0x2A_D7B1, scale)), text(0x4D80, "sample")],
        );
        let entry = |number| {
            let video = master(0xE0, &[unsigned(0xB0, 640), unsigned(0xBA, 480)]);
            let codec = [text(0x86, "V_MPEG4/ISO/AVC"), element(0x63A2, Some(&self.codec_private))].concat();
            master(0xAE, &[unsigned(0xD7, number), unsigned(0x73C5, number), unsigned(0x83, 1), codec, video])
        };
        let entries: Vec<_> = (1..=self.tracks).map(entry).collect();
        [ebml, vec![0x18, 0x53, 0x80, 0x67], self.segment_size.clone(), info, master(0x1654_AE6B, &entries)].concat()
    }

    pub(crate) fn build(self) -> Vec<u8> {
        [self.header(), self.body].concat()
    }

    pub(crate) fn doc_type(mut self, doc_type: &str) -> Self {
        self.doc_type = doc_type.to_owned();
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self
    }

    pub(crate) fn element(self, id: u32, content: Option<&[u8]>) -> Self {
        self.bytes(&element(id, content))
    }

    pub(crate) fn cluster(self, timecode: u64) -> Self {
        self.element(0x1F43_B675, None).bytes(&unsigned(0xE7, timecode)).element(0xA7, Some(&[0]))
    }

    /// The head of a SimpleBlock that says it holds `size` bytes.
    pub(crate) fn block(self, track: u8, timecode: i16, flags: u8, size: u64) -> Self {
        let [high, low] = timecode.to_be_bytes();
        self.bytes(&[0xA3]).bytes(&((size + 4) | 1 << 56).to_be_bytes()).bytes(&[0x80 | track, high, low, flags])
    }

    pub(crate) fn frame(self, track: u8, timecode: i16, flags: u8, frame: &[u8]) -> Self {
        self.block(track, timecode, flags, frame.len() as u64).bytes(frame)
    }

    pub(crate) fn key(self, track: u8, timecode: i16) -> Self {
        self.frame(track, timecode, 0x80, IDR)
    }

    pub(crate) fn delta(self, track: u8, timecode: i16) -> Self {
        self.frame(track, timecode, 0, NON_IDR)
    }

    pub(crate) fn block_group(self, track: u8, timecode: i16, frame: &[u8]) -> Self {
        let [high, low] = timecode.to_be_bytes();
        let block = element(0xA1, Some(&[&[0x80 | track, high, low, 0], frame].concat()));
        self.element(0xA0, Some(&[block, unsigned(0x9B, 40)].concat()))
    }

    /// Fragments of one second each, with one key frame and `deltas` others.
    pub(crate) fn gops(self, start_ms: u64, count: u64, deltas: i16) -> Self {
        (0..count).fold(self, |sample, i| {
            let sample = sample.cluster(start_ms + i * 1000).key(1, 0);
            (1..=deltas).fold(sample, |sample, frame| sample.delta(1, frame * (900 / deltas)))
        })
    }

    pub(crate) fn tag(self, name: &str, value: &str) -> Self {
        let simple_tag = master(0x67C8, &[text(0x45A3, name), text(0x4487, value)]);
        self.element(0x1254_C367, Some(&master(0x7373, &[simple_tag])))
    }

    pub(crate) fn end_of_fragment(self) -> Self {
        self.tag("AWS_KINESISVIDEO_END_OF_FRAGMENT", "")
    }
}
