//! Matroska (RFC 9559) as PutMedia takes it, read as a stream.
//!
//! [`parser`] finds elements and says what is not well formed (4006); [`fragments`] turns them into fragments and
//! enforces the service's other rules. Invariant: memory is bounded by the header, the tags of one fragment and, when
//! asked for, its record or copy; a frame is never held. Absent: decoding, seeking, EBML lacing, encryption.

pub(crate) mod avc;
pub(crate) mod element;
pub(crate) mod event;
pub(crate) mod fragment;
pub(crate) mod fragments;
pub(crate) mod header;
mod hevc;
pub(crate) mod parser;

#[cfg(test)]
#[path = "../../tests/support/mkv.rs"]
pub(crate) mod sample;
