//! What is on disk and what is in the stream, and whether that is the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kvs_server::{ErrorRecord, KvsServer, SessionEnd, StreamRecord};

use super::media::{self, Packet};

/// The segments of an archive, in order.
pub(crate) fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut segments: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "mp4"));
    segments.sort();
    segments
}

/// All pictures in an archive, in decoding order.
pub(crate) async fn archived(directory: &Path) -> Vec<Packet> {
    tracks(directory).await.0
}

/// All audio in an archive.
pub(crate) async fn archived_audio(directory: &Path) -> Vec<Packet> {
    tracks(directory).await.1
}

async fn tracks(directory: &Path) -> (Vec<Packet>, Vec<Packet>) {
    let (mut pictures, mut sound) = (Vec::new(), Vec::new());
    for segment in segments(directory) {
        let mut found = media::tracks(&segment).await;
        // ffmpeg counts from the first decoding time; the name tells when what is first is shown or heard. Where pictures are
        // reordered their decoding begins before that.
        let is_in_order = found.0.is_sorted_by_key(|packet| packet.ms);
        let heard = found.1.iter().filter(|_| is_in_order);
        let first = found.0.iter().chain(heard).map(|packet| packet.ms).min();
        let shift = started(&segment) - first.unwrap_or(0);
        found.0.iter_mut().chain(&mut found.1).for_each(|packet| packet.ms += shift);
        pictures.extend(found.0);
        sound.extend(found.1);
    }
    (pictures, sound)
}

/// When what is first in a segment is shown or heard, by its name, in milliseconds since the epoch.
pub(crate) fn started(segment: &Path) -> i64 {
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    let (time, millis) = name.split_at_checked(15).unwrap_or_else(|| panic!("{name} is not a segment's name"));
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", time).unwrap_or_else(|error| panic!("{name}: {error}"));
    let millis: i64 = millis.get(..3).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name}: no time"));
    time.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp().as_millisecond() + millis
}

/// Each decoded picture of an archive; every segment plays by itself.
pub(crate) async fn archived_pictures(directory: &Path) -> Vec<String> {
    let mut pictures = Vec::new();
    for segment in segments(directory) {
        pictures.extend(media::decoded(&segment).await);
    }
    pictures
}

/// What was persisted: each picture once, with how often it came, by time.
pub(crate) fn stored(record: &StreamRecord) -> Vec<(Packet, u32)> {
    stored_of_track(record, 1)
}

/// The same of another track: audio is 2.
pub(crate) fn stored_of_track(record: &StreamRecord, track: u64) -> Vec<(Packet, u32)> {
    let mut pictures: BTreeMap<(i64, &str), (Packet, u32)> = BTreeMap::new();
    for fragment in record.fragments.iter().filter(|fragment| fragment.persisted_at.is_some()) {
        for block in fragment.blocks.iter().filter(|block| block.track == track) {
            let hash = block.sha256.as_deref().expect("blocks are recorded with their hashes");
            let packet = Packet { ms: block.timestamp_ms, is_key: block.key, hash: hash.to_owned() };
            pictures.entry((block.timestamp_ms, hash)).or_insert((packet, 0)).1 += 1;
        }
    }
    pictures.into_values().collect()
}

/// Every archived picture is in the stream, with its bytes and its time, and nothing else is. Returns how many
/// pictures there are and how many came more than once.
pub(crate) fn assert_stored(archived: &[Packet], record: &StreamRecord) -> (usize, u32) {
    let stored = stored(record);
    let mut archived: Vec<&Packet> = archived.iter().collect();
    archived.sort_by_key(|packet| (packet.ms, packet.hash.clone()));
    assert!(!archived.is_empty(), "{}: nothing was archived", record.name);
    let mut at = 0;
    let mut missing = Vec::new();
    for packet in &archived {
        // Milliseconds are rounded here and there.
        let is_same = |other: &Packet| other.hash == packet.hash && (other.ms - packet.ms).abs() <= 2;
        let near = stored[at..].iter().take_while(|(other, _)| other.ms <= packet.ms + 2);
        match near.enumerate().find_map(|(ahead, (other, _))| is_same(other).then_some(ahead)) {
            Some(ahead) => at += ahead + 1,
            None => missing.push((packet.ms, packet.is_key)),
        }
    }
    let resent = stored.iter().map(|(_, count)| count - 1).sum();
    let span = |first: Option<i64>, last: Option<i64>| (last.unwrap_or(0) - first.unwrap_or(0)) as f64 / 1000.0;
    assert!(
        missing.is_empty(),
        "{}: {} of {} archived pictures ({:.1} s) are not in the stream, which has {} ({} of them twice); the first \
         missing {:?} s after the first archived, the last {:?}: {:?}",
        record.name,
        missing.len(),
        archived.len(),
        span(archived.first().map(|packet| packet.ms), archived.last().map(|packet| packet.ms)),
        stored.len(),
        resent,
        span(archived.first().map(|packet| packet.ms), missing.first().map(|(ms, _)| *ms)),
        span(archived.first().map(|packet| packet.ms), missing.last().map(|(ms, _)| *ms)),
        &missing[..missing.len().min(5)],
    );
    (archived.len(), resent)
}

/// The agent kept to all rules of the service, and no session ended with an error that was not ordered.
pub(crate) fn assert_well_behaved(record: &StreamRecord) {
    assert!(record.violations.is_empty(), "{}: {:#?}", record.name, record.violations);
    // The end of a long connection is the service's doing.
    let is_ordered = |error: &&ErrorRecord| error.detail == "on command" || error.id.0 == 4003;
    let unordered: Vec<_> = record.errors.iter().filter(|error| !is_ordered(error)).collect();
    assert!(unordered.is_empty(), "{}: {unordered:#?}", record.name);
}

/// Each session in a healthy run ends in order.
pub(crate) fn assert_ends_in_order(record: &StreamRecord) {
    for session in &record.sessions {
        assert_eq!(session.end, Some(SessionEnd::EndOfBody), "{}: session {}", record.name, session.id);
    }
}

/// Writes what a stream was sent to files, one for each session, and returns them in order.
pub(crate) fn dumps(kvs: &KvsServer, stream: &str, directory: &Path) -> Vec<PathBuf> {
    let write = |dump: kvs_server::SessionDump| {
        let path = directory.join(format!("{stream}-{:04}.mkv", dump.session));
        std::fs::write(&path, dump.mkv).expect("a dump is written");
        path
    };
    kvs.dumped(stream).into_iter().map(write).collect()
}
