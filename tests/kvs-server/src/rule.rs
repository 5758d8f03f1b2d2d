//! What a careful producer keeps to although the service does not, or not always, refuse otherwise.
//!
//! Breaking a rule is recorded and has no other effect, so that a test can say that nothing of the kind happened.

use serde::Serialize;

/// Something a careful producer must not do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Violation {
    /// When.
    pub at: u64,
    /// In which session, if in one.
    pub session: Option<u64>,
    /// The rule.
    pub rule: Rule,
    /// What exactly was wrong.
    pub detail: String,
}

/// What a careful producer keeps to although the service does not, or not always, refuse otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The first video frame of a fragment is a key frame.
    FragmentWithoutKeyFrame,
    /// A key frame has an IDR slice.
    KeyFrameWithoutIdr,
    /// The NAL units of a frame fill their block exactly.
    NalLengths,
    /// Frames are not empty.
    EmptyFrame,
    /// Blocks are not laced.
    Lacing,
    /// Only Clusters of SimpleBlocks and Tags after the header, no index.
    UnusualElement,
    /// Fragment tags do not begin with `AWS`.
    ReservedTag,
    /// The end-of-fragment tag follows a fragment.
    EndOfFragmentWithoutFragment,
    /// At most 5 fragments per second.
    FragmentRate,
    /// At most 5 PutMedia calls per second.
    PutMediaRate,
    /// At most 5 calls per second of each control-plane operation.
    ControlPlaneRate,
    /// An older session only drains after a newer one began.
    ConcurrentSession,
    /// All headers Amazon's own producer sends.
    MissingHeader,
    /// Well-formed HTTP.
    HttpFraming,
}
