use super::sessions::behind;
use super::*;

fn settings(url: &str) -> Hls {
    let url = url.parse().expect("a URL");
    Hls { url, credentials: None, ca_file: None, insecure: false, stall_timeout: Duration::from_secs(20) }
}

#[test]
fn nothing_secret_of_a_url_is_shown() {
    for (url, shown) in [
        ("https://cdn.example/token/abc/live.m3u8?sig=secret", "cdn.example/…/live.m3u8"),
        ("http://cam.local:8080/live.m3u8", "cam.local/live.m3u8"),
        ("http://cam.local", "cam.local/"),
    ] {
        assert_eq!(Stream::new(&settings(url)).shown(), shown);
    }
}

#[test]
fn a_whole_answer_is_cut_to_the_range() {
    let whole = Bytes::from_static(b"0123456789");
    let check = |range, expected: &[u8]| assert_eq!(cut(whole.clone(), range), expected, "{range:?}");
    check(None, b"0123456789");
    check(Some((2, 3)), b"234");
    check(Some((0, 10)), b"0123456789");
    // It is the range already, or nothing that fits.
    check(Some((20, 10)), b"0123456789");
    check(Some((u64::MAX - 1, 1)), b"0123456789");
}

#[test]
fn a_jump_inside_a_segment_is_bounded() {
    let picture = |seconds| {
        let data = Bytes::new();
        (edgecam_media::assembler::Picture { is_idr: true, data, parameter_sets: None }, Ticks::from_seconds(seconds))
    };
    let mut pictures = vec![picture(100), picture(102), picture(101), picture(113), picture(90_000)];
    bound(&mut pictures, Duration::from_secs(2));
    let times: Vec<Ticks> = pictures.iter().map(|(_, pts)| *pts).collect();
    assert_eq!(times, [100, 102, 101, 112, 112].map(Ticks::from_seconds));
}

#[tokio::test(start_paused = true)]
async fn an_older_playlist_brings_nothing_new() {
    let settings = settings("http://cam.local/live.m3u8");
    let mut stream = Stream::new(&settings);
    stream.next = Some(20);
    let media = |sequence: u64, count: usize| {
        let segments: String = (0..count).map(|index| format!("#EXTINF:2,\n{index}.ts\n")).collect();
        let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n{segments}");
        let Ok(Playlist::Media(media)) = playlist::parse(&text) else { panic!("a playlist") };
        media
    };
    // As far as it was played; two segments older; caught up, with a new one.
    assert_eq!(stream.begin(&media(14, 6)), 6);
    assert_eq!((stream.begin(&media(12, 6)), stream.next), (6, Some(20)));
    assert_eq!((stream.begin(&media(15, 6)), stream.next), (5, Some(20)));
    // It stays older: it began anew, and is joined three target durations before its end.
    assert_eq!((stream.begin(&media(0, 12)), stream.next), (12, Some(20)));
    tokio::time::advance(Duration::from_secs(7)).await;
    assert_eq!((stream.begin(&media(0, 14)), stream.next), (11, Some(11)));
    // So did one that is far off, at once.
    stream.next = Some(200);
    assert_eq!((stream.begin(&media(0, 6)), stream.next), (3, Some(3)));
}

#[test]
fn five_segments_in_a_row_that_cannot_be_read_end_it() {
    let settings = settings("http://cam.local/live.m3u8");
    let mut stream = Stream::new(&settings);
    for sequence in 0..4 {
        assert!(stream.unreadable(sequence, "torn".to_owned()).is_ok());
    }
    assert!(matches!(stream.unreadable(4, "torn".to_owned()), Err(CaptureError::UnsupportedCodec(_))));
}

#[test]
fn the_next_session_goes_on_behind_the_last_fragment() {
    let text: String = (5..9)
        .map(|number| {
            format!(
                "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:0{number}.000Z\n#EXTINF:1,\nf.mp4?FragmentNumber=9{number}&SessionToken=x\n"
            )
        })
        .collect();
    let Ok(Playlist::Media(media)) = playlist::parse(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n{text}")) else {
        panic!("a playlist of segments")
    };
    let taken = |index: usize| media.segments[index].taken;
    for (number, taken, expected) in [
        ("95", None, Some(1)),
        ("98", taken(3), Some(4)),
        // No longer in the list: by time.
        ("80", taken(1), Some(2)),
        ("80", taken(3), None),
        ("80", None, None),
    ] {
        assert_eq!(behind(&media, number, taken), expected, "{number}");
    }
}
