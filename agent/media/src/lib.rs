//! Pure media types and formats.
//!
//! Every source is brought into one form here: [`AccessUnit`]s with length-prefixed NAL units and the
//! parameter sets apart. The same bytes then go into the [`ring`], into fragmented MP4 ([`mp4`]) and into
//! Matroska ([`mkv`]) without being touched again.
//!
//! Deliberately absent: clocks, sockets, files, threads. Time is an argument.

pub mod access_unit;
pub mod annex_b;
pub mod assembler;
pub mod audio;
pub mod bmff;
pub mod clock;
pub mod mkv;
pub mod mp4;
pub mod mpeg_ts;
pub mod nal;
pub mod parameter_sets;
pub mod picture_order;
pub mod ring;
pub mod rtmp;
pub mod rtp;
mod slice;
pub mod timestamp;
pub mod unweighted;

pub use access_unit::{AccessUnit, Codec, TrackId};
pub use audio::{AudioCodec, AudioFormat};
pub use parameter_sets::ParameterSets;
pub use timestamp::{Ticks, Timecode, Timestamp};
