use super::*;

fn part(content_type: &str, body: &[u8]) -> Part {
    let head = PartHead { content_type: content_type.to_owned(), ..PartHead::default() };
    Part { head, body: Bytes::copy_from_slice(body) }
}

#[test]
fn audio_is_never_taken_for_video() {
    let picture = &[0, 0, 0, 1, 0x67][..];
    for (content_type, body, expected) in [
        ("video/h264", picture, Kind::H264),
        ("video/x-h264", picture, Kind::H264),
        ("video/", picture, Kind::H264),
        ("", picture, Kind::H264),
        ("", &[0xff, 0xd8][..], Kind::Audio),
        ("video/", &[0xff, 0xd8][..], Kind::Other),
        ("video/jpeg", &[0xff, 0xd8][..], Kind::Other),
        ("video/h265", picture, Kind::Other),
        ("image/jpeg", &[0xff, 0xd8][..], Kind::Other),
        ("audio/x-g711-mulaw", picture, Kind::Audio),
        ("text/plain", picture, Kind::Audio),
    ] {
        assert_eq!(kind(&part(content_type, body)), expected, "{content_type}");
    }
}

#[test]
fn zeros_behind_a_unit_go() {
    let padded = [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 0, 1, 0x65, 3, 0];
    assert_eq!(&length_prefixed(&padded)[..], &[0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x68, 2, 0, 0, 0, 2, 0x65, 3]);
    assert!(length_prefixed(b"no start code").is_empty());
}

#[test]
fn capture_times_are_differences_of_filetimes() {
    let at = |millis: u64| Arrival {
        monotonic: std::time::Duration::from_millis(millis),
        wall: edgecam_media::Timestamp::EPOCH,
    };
    let first = 132_537_600_000_000_000;
    let mut clock = CaptureClock { first, last: Ticks::ZERO, last_at: at(0) };
    for (time, millis, expected) in [
        (Some(first), 5, 0),
        (Some(first + 666_667), 70, 66),
        // Without a time, by arrival.
        (None, 136, 132),
        (Some(first + 2_000_000), 210, 200),
        // Back by an hour: it is the clock's business to say so.
        (Some(first - 36_000_000_000), 260, -3_600_000),
        (None, 310, -3_599_950),
        (Some(u64::MAX), 400, -3_599_860),
    ] {
        let found = clock.media(time, at(millis)).millis();
        assert!((found - expected).abs() <= 1, "{time:?} at {millis}: {found}");
    }
}

#[test]
fn logins_pause_longer_while_sessions_are_short() {
    let mut now = Instant::now();
    let mut pauses = LoginPauses::new();
    let mut after = |lasted: u64| {
        pauses.logged_in(now);
        now += Duration::from_secs(lasted);
        pauses.next(now).as_secs_f64()
    };
    for (lasted, full) in
        [(0, 1.0), (2, 2.0), (30, 4.0), (0, 8.0), (0, 16.0), (0, 30.0), (0, 30.0), (31, 0.0), (0, 1.0)]
    {
        let pause = after(lasted);
        // Jitter takes off up to an eighth.
        assert!(pause <= full && pause >= full * 0.875, "{pause} s instead of {full} s after {lasted} s");
    }
}
