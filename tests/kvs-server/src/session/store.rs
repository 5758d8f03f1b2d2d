//! From the bytes of a session to fragments that are acknowledged, persisted and recorded.
//!
//! Fragments count as stored when they are persisted: those that were only received when their connection broke are
//! lost, because the service promises nothing about them.

use std::io::{self, Write as _};
use std::ops::ControlFlow::Continue;

use tokio::time::Instant;

use crate::config::Dump;
use crate::error::Rejection;
use crate::fault::AckKind;
use crate::mkv::fragment::Notice;
use crate::record::{FragmentRecord, SessionEnd};
use crate::rule::Rule;
use crate::session::acks::Ack;
use crate::session::conduct::{Flow, Session, orderly};
use crate::stream::Stream;

/// A fragment that is received but not yet persisted.
#[derive(Debug)]
pub(crate) struct Persisting {
    pub(super) due: Instant,
    pub(super) index: u32,
    pub(super) timecode_ms: i64,
    pub(super) number: String,
    pub(super) cluster: Vec<u8>,
}

impl Session {
    /// Does something with the stream's record.
    pub(super) fn record(&self, change: impl FnOnce(&mut Stream, u64)) {
        if let Some(stream) = self.shared.lock().streams.get_mut(&self.admission.stream) {
            change(stream, self.admission.session);
        }
        self.shared.progressed();
    }

    pub(super) fn wire(&mut self, mut wire: &[u8], now: Instant) -> Flow {
        while !wire.is_empty() && !self.body.is_complete() {
            let step = match self.body.step(wire) {
                Ok(step) => step,
                Err(why) => {
                    self.record(|stream, session| stream.violation(Some(session), Rule::HttpFraming, why));
                    return orderly(SessionEnd::BadFraming(why.to_owned()));
                }
            };
            let result = self.ingest.feed(wire.get(step.content).unwrap_or_default());
            self.handle_notices(now);
            wire = wire.get(step.used..).unwrap_or_default();
            let result = result.and_then(|()| if self.body.is_complete() { self.ingest.finish() } else { Ok(()) });
            self.handle_notices(now);
            if let Err(rejection) = result {
                return self.reject(&rejection, now);
            }
        }
        Continue(())
    }

    fn handle_notices(&mut self, now: Instant) {
        for notice in self.ingest.take_notices() {
            match notice {
                Notice::Tracks(tracks) => self.record(|stream, session| stream.set_tracks(session, &tracks)),
                Notice::Violation(rule, detail) => {
                    self.record(|stream, session| stream.violation(Some(session), rule, detail))
                }
                Notice::Started { index, timecode_ms } => {
                    let number = self.shared.lock().next_fragment_number();
                    let strict = self.admission.strict && !self.faults.disturb();
                    let absolute_ms = timecode_ms.saturating_add(self.admission.origin_ms);
                    let record = FragmentRecord::begun(self.admission.session, index, number.clone(), timecode_ms);
                    self.record(|stream, _| stream.start_fragment(record, absolute_ms, strict, now));
                    self.acks.push_ack(&Ack::of(AckKind::Buffering, timecode_ms, &number), now);
                    self.fragment = Some((index, timecode_ms, number));
                }
                Notice::Complete(mut fragment) => {
                    let Some((index, timecode_ms, number)) = self.fragment.take() else { continue };
                    let cluster = std::mem::take(&mut fragment.raw);
                    let bytes = std::mem::take(&mut self.unrecorded_bytes);
                    self.record(|stream, session| {
                        stream.add_bytes(session, bytes);
                        stream.end_fragment(session, *fragment, true);
                    });
                    self.acks.push_ack(&Ack::of(AckKind::Received, timecode_ms, &number), now);
                    if !self.admission.no_retention {
                        let due = now + self.shared.config.persist_delay;
                        self.persisting.push_back(Persisting { due, index, timecode_ms, number, cluster });
                    }
                }
            }
        }
    }

    pub(super) fn persist_until(&mut self, due: Option<Instant>, now: Instant) -> io::Result<()> {
        while let Some(fragment) = self.persisting.pop_front_if(|fragment| due.is_none_or(|due| fragment.due <= due)) {
            let Persisting { index, timecode_ms, number, cluster, .. } = fragment;
            if let Dump::Directory(directory) = &self.admission.dump {
                let path = directory.join(format!("{}-{}.mkv", self.admission.stream, self.admission.session));
                let mut file = std::fs::File::options().create(true).append(true).open(path)?;
                if file.metadata()?.len() == 0 {
                    file.write_all(self.ingest.header())?;
                }
                file.write_all(&cluster)?;
            }
            let acknowledged = self.acks.push_ack(&Ack::of(AckKind::Persisted, timecode_ms, &number), now);
            self.record(|stream, session| {
                stream.persist_fragment(session, index, acknowledged);
                if self.admission.dump == Dump::Memory {
                    stream.keep(session, self.ingest.header(), &cluster);
                }
            });
        }
        Ok(())
    }

    /// Ends the session with an ERROR acknowledgement.
    pub(super) fn reject(&mut self, rejection: &Rejection, now: Instant) -> Flow {
        let persisted = self.persist_until(None, now);
        let fragment = self.fragment.as_ref().map(|(_, timecode_ms, number)| (*timecode_ms, number.clone()));
        let index = self.fragment.as_ref().map(|(index, ..)| *index);
        self.acks.push_ack(&Ack::error(rejection.id, fragment), now);
        self.record(|stream, session| stream.reject(session, index, rejection));
        match persisted {
            Ok(()) => orderly(SessionEnd::Error(rejection.id)),
            Err(error) => orderly(SessionEnd::Broken(error.to_string())),
        }
    }

    pub(super) fn close(&mut self, why: SessionEnd) {
        let (partial, bytes, disturbed) = (self.ingest.abandon(), self.unrecorded_bytes, self.faults.disturb());
        self.record(|stream, session| {
            stream.add_bytes(session, bytes);
            if let Some(fragment) = partial {
                stream.end_fragment(session, fragment, false);
            }
            if let Some(record) = stream.session(session) {
                record.disturbed = disturbed;
            }
            stream.close_session(session, why);
        });
    }
}
