use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::parameter_sets::tests::{PPS, SPS_720P};
use crate::{AudioCodec, AudioFormat, ParameterSets, Ticks, TrackId};

const START: i64 = 1_795_228_575_129;

fn sets() -> Arc<ParameterSets> {
    Arc::new(ParameterSets::h264(Bytes::from_static(SPS_720P), vec![Bytes::from_static(PPS)]).expect("valid"))
}

/// Units shown at these multiples of 40 ms, in decoding order; the first is an IDR.
fn units(order: &[i64]) -> Vec<AccessUnit> {
    let unit = |(index, &shown): (usize, &i64)| AccessUnit {
        track: TrackId::VIDEO,
        pts: Timestamp::from_unix_millis(START) + Ticks::from_millis(40 * shown),
        is_idr: index == 0,
        data: Bytes::from(vec![index as u8; 10 + index]),
        parameter_sets: (index == 0).then(sets),
    };
    order.iter().enumerate().map(unit).collect()
}

fn round_trip(order: &[i64]) -> (Vec<AccessUnit>, Fragment, Vec<u8>) {
    let units = units(order);
    let head = FragmentHead::new(1, Timestamp::from_unix_millis(START), &units, None);
    let mut bytes = head.bytes;
    units.iter().for_each(|unit| bytes.extend_from_slice(&unit.data));
    let fragment = fragment(&bytes).expect("readable").expect("a fragment");
    (units, fragment, bytes)
}

#[test]
fn a_fragment_gives_back_what_went_in() {
    for order in [&[0, 1, 2, 3][..], &[0, 3, 1, 2, 6, 4, 5], &[0], &[5, 6, 7]] {
        let (units, fragment, bytes) = round_trip(order);
        assert_eq!(fragment.size, bytes.len() as u64);
        assert_eq!(fragment.start, Some(Timestamp::from_unix_millis(START)));
        let mut at = fragment.data as usize;
        for (unit, sample) in units.iter().zip(&fragment.samples) {
            assert_eq!(Timestamp::from_unix_millis(START) + sample.time, unit.pts, "{order:?}");
            assert_eq!(sample.is_sync, unit.is_idr);
            assert_eq!(bytes[at..at + sample.size as usize], unit.data);
            at += sample.size as usize;
        }
        assert_eq!(at, bytes.len());
    }
}

#[test]
fn audio_lies_between_the_pictures_as_it_came() {
    let pictures = units(&[0, 2, 1, 3]);
    let sound = |index: i64| AccessUnit {
        track: TrackId::AUDIO,
        pts: Timestamp::from_unix_millis(START) + Ticks::new(2090 * index),
        is_idr: false,
        data: Bytes::from(vec![100 + index as u8; 5 + index as usize]),
        parameter_sets: None,
    };
    let [p0, p1, p2, p3] = [0, 1, 2, 3].map(|index: usize| pictures[index].clone());
    for units in [
        vec![p0.clone(), sound(0), sound(1), p1.clone(), p2.clone(), sound(2), p3.clone(), sound(3), sound(4)],
        vec![sound(1), p1, sound(2)],
        vec![p0, p2, p3],
        vec![sound(7), sound(8)],
    ] {
        let head = FragmentHead::new(1, Timestamp::from_unix_millis(START), &units, None);
        let mut bytes = head.bytes;
        units.iter().for_each(|unit| bytes.extend_from_slice(&unit.data));
        for cut in 0..bytes.len() {
            assert!(!matches!(fragment(&bytes[..cut]), Ok(Some(read)) if read.size <= cut as u64), "cut at {cut}");
        }
        let fragment = fragment(&bytes).expect("readable").expect("a fragment");
        assert_eq!((fragment.size, fragment.start.is_some()), (bytes.len() as u64, units[0].is_idr));
        let read: Vec<_> = fragment.samples.iter().map(|s| (s.track, s.time, s.size, s.is_sync)).collect();
        let since = |unit: &AccessUnit| unit.pts.since(Timestamp::from_unix_millis(START));
        let wrote: Vec<_> = units.iter().map(|u| (u.track, since(u), u.data.len() as u32, u.is_idr)).collect();
        assert_eq!(read, wrote);
    }
}

#[test]
fn heads_with_audio() {
    let aac = AudioFormat::aac(Bytes::from_static(&[0x12, 0x10])).expect("valid");
    let g711 = |codec| AudioFormat::g711(codec, 8000, 1);
    for audio in [aac, g711(AudioCodec::PcmA), g711(AudioCodec::PcmU)] {
        let sets = (*sets()).clone().with_audio(Some(Arc::new(audio)));
        let bytes = init_segment(&sets, Timestamp::from_unix_millis(START));
        assert_eq!(init(&bytes).map(|init| init.parameter_sets), Ok(sets));
        for cut in 0..bytes.len() {
            assert!(init(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn a_cut_fragment_is_never_taken_for_a_whole_one() {
    let (_, fragment, bytes) = round_trip(&[0, 1, 2]);
    for cut in 0..fragment.data as usize {
        assert_eq!(super::fragment(&bytes[..cut]), Err(ScanError::Short), "cut at {cut}");
    }
    for cut in fragment.data as usize..bytes.len() {
        let read = super::fragment(&bytes[..cut]).expect("its head is whole").expect("a fragment");
        assert!(read.size > cut as u64, "its size tells that samples are missing");
    }
}

#[test]
fn init_round_trip() {
    let bytes = init_segment(&sets(), Timestamp::from_unix_millis(START));
    let read = init(&bytes).expect("readable");
    assert_eq!(read.parameter_sets, *sets());
    assert_eq!(read.size, bytes.len() as u64);
    for cut in 0..bytes.len() {
        assert!(init(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn index_round_trip() {
    let entries = [RandomAccessEntry { time: 0, moof: 700 }, RandomAccessEntry { time: 90_000, moof: 99_000 }];
    let bytes = random_access_box(&entries);
    assert_eq!(random_access(&bytes), Some(entries.to_vec()));
    assert_eq!(bytes[bytes.len() - 4..], (bytes.len() as u32).to_be_bytes());
    assert_eq!(fragment(&bytes), Ok(None));
}

#[test]
fn ntp_keeps_every_tick() {
    for ticks in (0..90_001).chain([START * 90, 2_500_000_000 * 90_000 + 1]) {
        let time = Timestamp::from_ticks(ticks);
        assert_eq!(from_ntp(to_ntp(time)), time);
    }
}

#[test]
fn fragments_split_only_where_no_picture_is_shown_earlier() {
    let units = units(&[0, 3, 1, 2, 6, 4]);
    let latest = |upto: usize| units[..upto].iter().map(|unit| unit.pts).max().expect("not empty");
    let splits: Vec<bool> = (1..units.len()).map(|index| may_split_before(&units[index], latest(index))).collect();
    assert_eq!(splits, [true, false, false, true, false]);
}
