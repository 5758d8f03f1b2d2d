//! What became of an attempt to send.

/// One message of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It has arrived.
    Arrived,
    /// It can be sent again.
    Again,
    /// It will never be taken.
    Refused,
}

/// An attempt that failed as a whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// For a person.
    pub(super) message: String,
    /// Trying again soon will not help.
    pub(super) needs_a_person: bool,
    /// The credentials were refused: others may do.
    pub(super) is_credentials: bool,
    /// It is this message's fault: it will never be taken.
    pub(super) is_poison: bool,
}

impl Failure {
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), needs_a_person: false, is_credentials: false, is_poison: false }
    }

    pub(super) fn lasting(message: impl Into<String>) -> Self {
        Self { needs_a_person: true, ..Self::passing(message) }
    }

    pub(super) fn poison(message: impl Into<String>) -> Self {
        Self { is_poison: true, ..Self::passing(message) }
    }
}

/// What an attempt brought: the fate of each message, in order, and a word about those that did not arrive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    pub(super) fates: Vec<Fate>,
    pub(super) complaint: Option<String>,
}

impl Sent {
    pub(super) fn all(count: usize) -> Self {
        Self { fates: vec![Fate::Arrived; count], complaint: None }
    }
}
