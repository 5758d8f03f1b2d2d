//! The error ids of PutMedia's ERROR acks, and what each means for the fragment that was being sent.

/// What becomes of the footage an ERROR ack is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The service will never take this fragment: it is left out of the stream (the archive keeps it), counted and
    /// reported.
    Skip,
    /// The fragment is sent again over a new connection.
    Resend,
    /// The stream or its key refuses everything: the fragment is kept and sent again later, and a person must act.
    Hold,
}

/// `ErrorId` of an ERROR ack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ErrorId(pub u32);

/// Id, name, disposition, and what to do about it (facts from the PutMedia API reference and Amazon's producer).
const TABLE: &[(u32, &str, Disposition, &str)] = &[
    (4000, "STREAM_READ_ERROR", Disposition::Resend, "the service could not read the connection"),
    (
        4001,
        "MAX_FRAGMENT_SIZE_REACHED",
        Disposition::Skip,
        "a fragment exceeds 50 MB: lower the bitrate or the GOP length",
    ),
    (
        4002,
        "MAX_FRAGMENT_DURATION_REACHED",
        Disposition::Skip,
        "a fragment is too long: set the camera's GOP to 1 to 10 s",
    ),
    (4003, "MAX_CONNECTION_DURATION_REACHED", Disposition::Resend, "the normal end of a long connection"),
    (
        4004,
        "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS",
        Disposition::Skip,
        "timestamps went back: check the camera's clock",
    ),
    (4005, "MORE_THAN_ALLOWED_TRACKS_FOUND", Disposition::Skip, "too many tracks"),
    (4006, "INVALID_MKV_DATA", Disposition::Skip, "the service could not parse the Matroska data"),
    (4007, "INVALID_PRODUCER_TIMESTAMP", Disposition::Skip, "timestamps are not valid: check the device's clock"),
    (4008, "STREAM_NOT_ACTIVE", Disposition::Hold, "the stream is not ACTIVE: look at it in the KVS console"),
    (4009, "FRAGMENT_METADATA_LIMIT_REACHED", Disposition::Skip, "more than 10 tags in a fragment"),
    (4010, "TRACK_NUMBER_MISMATCH", Disposition::Skip, "a frame's track was not declared"),
    (4011, "FRAMES_MISSING_FOR_TRACK", Disposition::Skip, "a declared track has no frame in the fragment"),
    (4012, "MORE_THAN_ALLOWED_TRACKS_FOUND", Disposition::Skip, "more than 3 tracks"),
    (4500, "KMS_KEY_ACCESS_DENIED", Disposition::Hold, "allow the agent's role to use the stream's KMS key"),
    (4501, "KMS_KEY_DISABLED", Disposition::Hold, "enable the stream's KMS key"),
    (4502, "KMS_KEY_VALIDATION_ERROR", Disposition::Hold, "check the stream's KMS key"),
    (4503, "KMS_KEY_UNAVAILABLE", Disposition::Hold, "the stream's KMS key is not available"),
    (4504, "KMS_KEY_INVALID_USAGE", Disposition::Hold, "the stream's KMS key is not for encryption"),
    (4505, "KMS_KEY_INVALID_STATE", Disposition::Hold, "the stream's KMS key is in a state that forbids its use"),
    (4506, "KMS_KEY_NOT_FOUND", Disposition::Hold, "the stream's KMS key does not exist"),
    (4507, "STREAM_DELETED", Disposition::Hold, "the stream was deleted"),
    (5000, "INTERNAL_ERROR", Disposition::Resend, "an error inside the service"),
    (5001, "ARCHIVAL_ERROR", Disposition::Resend, "the service could not store the fragment"),
];

impl ErrorId {
    /// All ids that are known.
    pub fn known() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| Self(row.0))
    }

    fn row(self) -> Option<&'static (u32, &'static str, Disposition, &'static str)> {
        TABLE.iter().find(|row| row.0 == self.0)
    }

    /// The service's name for it.
    pub fn name(self) -> &'static str {
        self.row().map_or("UNKNOWN_ERROR", |row| row.1)
    }

    /// What becomes of the fragment. An id that is not known is worth another try.
    pub fn disposition(self) -> Disposition {
        self.row().map_or(Disposition::Resend, |row| row.2)
    }

    /// What it means, and what a person can do.
    pub fn advice(self) -> &'static str {
        self.row().map_or("an error id this agent does not know", |row| row.3)
    }
}
