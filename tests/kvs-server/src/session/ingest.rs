//! The media of one session: parser and rules behind one door.

use crate::error::Rejection;
use crate::mkv::fragment::{Fragment, Notice};
use crate::mkv::fragments::Fragments;
use crate::mkv::parser::Parser;

/// Takes the content of a body and says what it came to.
#[derive(Debug)]
pub(crate) struct Ingest {
    parser: Parser,
    fragments: Fragments,
}

/// How a session's media is treated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Treatment {
    /// Enforce the rules of the service; otherwise only what is Matroska at all.
    pub(crate) strict: bool,
    pub(crate) record_blocks: bool,
    /// Keep copies of fragments until they are persisted.
    pub(crate) copy: bool,
    /// Added to the timestamps of records.
    pub(crate) origin_ms: i64,
}

impl Ingest {
    pub(crate) fn new(treatment: Treatment) -> Self {
        let Treatment { strict, record_blocks, copy, origin_ms } = treatment;
        Self { parser: Parser::new(!strict, copy), fragments: Fragments::new(strict, record_blocks, copy, origin_ms) }
    }

    pub(crate) fn feed(&mut self, content: &[u8]) -> Result<(), Rejection> {
        self.parser.feed(content, &mut |event| self.fragments.on(event))
    }

    /// The body has ended in good order.
    pub(crate) fn finish(&mut self) -> Result<(), Rejection> {
        self.parser.finish(&mut |event| self.fragments.on(event))?;
        self.fragments.finish()
    }

    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.fragments.notices)
    }

    /// The fragment that never became complete.
    pub(crate) fn abandon(&mut self) -> Option<Fragment> {
        self.fragments.abandon(self.parser.offset())
    }

    pub(crate) fn header(&self) -> &[u8] {
        self.fragments.header()
    }

    /// Fragments begun, and the bytes of the one that is coming in.
    pub(crate) fn position(&self) -> (u32, u64) {
        let bytes = self.fragments.current().map_or(0, |(_, start)| self.parser.offset() - start);
        (self.fragments.count(), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorId;
    use crate::mkv::sample::{self, Sample};
    use crate::rule::Rule;

    const STRICT: Treatment = Treatment { strict: true, record_blocks: true, copy: false, origin_ms: 0 };

    /// What a body comes to in pieces of `piece` bytes: indices of complete fragments, rules broken, and the error at
    /// the end.
    fn ingest(treatment: Treatment, body: &[u8], piece: usize) -> (Vec<u32>, Vec<Rule>, Option<ErrorId>, String) {
        let mut ingest = Ingest::new(treatment);
        let result = body.chunks(piece).try_for_each(|piece| ingest.feed(piece)).and_then(|()| ingest.finish());
        let (mut complete, mut rules, mut log) = (Vec::new(), Vec::new(), String::new());
        for notice in ingest.take_notices() {
            match notice {
                Notice::Violation(rule, _) => rules.push(rule),
                Notice::Complete(fragment) => {
                    complete.push(fragment.index);
                    log += &format!("{fragment:?}\n");
                }
                other => log += &format!("{other:?}\n"),
            }
        }
        (complete, rules, result.err().map(|rejection| rejection.id), log)
    }

    #[test]
    fn pieces_of_any_size_come_to_the_same() {
        let body = Sample::default().tag("a", "b").gops(0, 3, 2).end_of_fragment().build();
        let whole = ingest(STRICT, &body, body.len());
        assert_eq!((&whole.0[..], &whole.1[..], whole.2), (&[1, 2, 3][..], &[][..], None));
        for piece in 1..body.len() {
            assert_eq!(ingest(STRICT, &body, piece), whole, "pieces of {piece}");
        }
        for cut in 1..body.len() {
            let mut ingest = Ingest::new(STRICT);
            let (head, tail) = body.split_at(cut);
            ingest.feed(head).and_then(|()| ingest.feed(tail)).expect("well formed");
        }
    }

    #[test]
    fn errors_of_the_service() {
        let sample = Sample::default;
        let two_tracks = || Sample { tracks: 2, ..Sample::default() };
        let many_tags = (0..11).fold(sample(), |sample, i| sample.tag(&format!("name{i}"), "v"));
        let long_gop = (1..=11).fold(sample().cluster(0).key(1, 0), |sample, second| sample.delta(1, second * 1000));
        let no_scale = Sample { timecode_scale: None, ..sample() };
        let bad_avcc = Sample { codec_private: vec![1, 2, 3], ..sample() };
        let known_segment = Sample { segment_size: vec![0x81], ..sample() };
        let good = sample().gops(0, 2, 1).build();
        let cut_short = good.get(..good.len() - 1).expect("within").to_vec();
        let second_header = [good.clone(), good.clone()].concat();
        let headless = good.get(sample().build().len()..).expect("within").to_vec();
        for (what, body, expected, complete) in [
            ("fine", good, None, 2),
            ("nothing at all", vec![], None, 0),
            ("too large", sample().cluster(0).block(1, 0, 0x80, 50_000_000).build(), Some(4001), 0),
            ("too long", long_gop.build(), Some(4002), 0),
            (
                "equal to the last frame",
                sample().cluster(0).key(1, 0).delta(1, 500).cluster(500).key(1, 0).build(),
                Some(4004),
                1,
            ),
            ("backwards", sample().gops(10_000, 1, 1).gops(0, 1, 1).build(), Some(4004), 1),
            (
                "just after the last frame",
                sample().cluster(0).key(1, 0).delta(1, 500).cluster(501).key(1, 0).build(),
                None,
                2,
            ),
            ("truncated", cut_short, Some(4006), 1),
            ("two headers", second_header, Some(4006), 1),
            ("no header", headless, Some(4006), 0),
            ("garbage", b"GET / HTTP/1.1".to_vec(), Some(4006), 0),
            ("no TimecodeScale", no_scale.gops(0, 1, 1).build(), Some(4006), 0),
            ("not an avcC", bad_avcc.gops(0, 1, 1).build(), Some(4006), 0),
            ("Segment of known size", known_segment.gops(0, 1, 1).build(), Some(4006), 0),
            ("block before Timecode", sample().element(0x1F43_B675, None).key(1, 0).build(), Some(4006), 0),
            ("unknown element", sample().gops(0, 1, 1).element(0x4FFF, Some(&[])).build(), Some(4006), 0),
            ("DocType", sample().doc_type("matryoshka").gops(0, 1, 1).build(), Some(4006), 0),
            ("header only", sample().build(), None, 0),
            ("eleven tags", many_tags.gops(0, 1, 1).build(), Some(4009), 0),
            ("long name", sample().tag(&"n".repeat(129), "v").gops(0, 1, 1).build(), Some(4009), 0),
            ("long value", sample().tag("n", &"v".repeat(257)).gops(0, 1, 1).build(), Some(4009), 0),
            ("undeclared track", sample().cluster(0).key(1, 0).key(2, 0).build(), Some(4010), 0),
            (
                "a track without frames",
                two_tracks().cluster(0).key(1, 0).cluster(1000).key(1, 0).build(),
                Some(4011),
                0,
            ),
            ("empty fragment", sample().cluster(0).cluster(1000).build(), Some(4011), 0),
            ("both tracks", two_tracks().cluster(0).key(1, 0).key(2, 0).build(), None, 1),
            ("four tracks", Sample { tracks: 4, ..Sample::default() }.build(), Some(4012), 0),
        ] {
            for piece in [1, 7, body.len().max(1)] {
                let (indices, _, error, log) = ingest(STRICT, &body, piece);
                assert_eq!((error, indices.len()), (expected.map(ErrorId), complete), "{what}\n{log}");
            }
        }
    }

    #[test]
    fn violations() {
        let sample = Sample::default;
        let end_tag = |sample: Sample| sample.end_of_fragment();
        for (what, body, rules) in [
            ("fine", end_tag(sample().gops(0, 2, 3)).build(), vec![]),
            ("no key frame", sample().cluster(0).delta(1, 0).build(), vec![Rule::FragmentWithoutKeyFrame]),
            (
                "no IDR",
                sample().cluster(0).frame(1, 0, 0x80, &[0, 0, 0, 2, 0x41, 1]).build(),
                vec![Rule::KeyFrameWithoutIdr],
            ),
            ("Annex B", sample().cluster(0).frame(1, 0, 0x80, &[0, 0, 0, 1, 0x65, 1]).build(), vec![Rule::NalLengths]),
            ("empty", sample().cluster(0).frame(1, 0, 0x80, &[]).build(), vec![Rule::EmptyFrame, Rule::NalLengths]),
            ("laced", sample().cluster(0).frame(1, 0, 0x86, sample::IDR).build(), vec![Rule::Lacing]),
            ("index", sample().gops(0, 1, 1).element(0x1C53_BB6B, Some(&[0; 9])).build(), vec![Rule::UnusualElement]),
            ("reserved", sample().tag("AWSx", "").gops(0, 1, 1).build(), vec![Rule::ReservedTag]),
            ("nothing to end", end_tag(sample()).build(), vec![Rule::EndOfFragmentWithoutFragment]),
        ] {
            let (_, found, error, _) = ingest(STRICT, &body, 3);
            assert_eq!((found, error), (rules, None), "{what}");
        }
    }

    #[test]
    fn lenient_takes_what_others_write() {
        let lenient = Treatment { strict: false, ..STRICT };
        let segment = Sample { segment_size: vec![0x01, 0, 0, 0, 0, 1, 0, 0], ..Sample::default() };
        for (what, body, complete) in [
            ("known sizes, backwards", segment.gops(5000, 1, 1).gops(0, 1, 1).build(), 2),
            (
                "index and unknown elements",
                Sample::default().element(0x114D_9B74, Some(&[1])).gops(0, 1, 1).element(0x4FFF, Some(&[])).build(),
                1,
            ),
            ("BlockGroup", Sample::default().cluster(0).block_group(1, 0, sample::IDR).build(), 1),
        ] {
            let (indices, rules, error, _) = ingest(lenient, &body, 5);
            assert_eq!((indices.len(), rules, error), (complete, vec![], None), "{what}");
        }
        let (.., error, _) = ingest(lenient, b"GET / HTTP/1.1", 3);
        assert_eq!(error, Some(ErrorId(4006)));
    }

    /// Whatever comes, it is an answer, and the same one however the input is cut.
    #[test]
    fn damaged_input() {
        let good = Sample { tracks: 2, ..Sample::default() }
            .tag("a", "b")
            .gops(0, 2, 2)
            .block_group(1, 950, sample::IDR)
            .end_of_fragment()
            .build();
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).expect("small")
        };
        for round in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..=random(3) {
                let at = random(bad.len());
                *bad.get_mut(at).expect("within") = u8::try_from(random(256)).expect("a byte");
            }
            for strict in [true, false] {
                let treatment = Treatment { strict, copy: true, ..STRICT };
                let (_, _, whole, _) = ingest(treatment, &bad, bad.len());
                let (_, _, pieces, _) = ingest(treatment, &bad, 1 + random(40));
                assert_eq!(whole, pieces, "round {round}");
            }
        }
    }

    #[test]
    fn copies_are_playable() {
        let copying = Treatment { copy: true, ..STRICT };
        let body = Sample::default().tag("a", "b").gops(0, 2, 2).build();
        let mut ingest = Ingest::new(copying);
        body.chunks(11).try_for_each(|piece| ingest.feed(piece)).and_then(|()| ingest.finish()).expect("well formed");
        let mut copy = ingest.header().to_vec();
        for notice in ingest.take_notices() {
            if let Notice::Complete(fragment) = notice {
                copy.extend(fragment.raw);
            }
        }
        assert_eq!(copy, body);
    }
}
