//! What the service answers when it refuses: [`ErrorId`] inside the acknowledgement stream of a running PutMedia,
//! `ServiceError` as an HTTP response.
//!
//! Absent: any decision. Who refuses, and why, is said where the rule is.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// `ErrorId` of an ERROR acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorId(pub u16);

macro_rules! error_ids {
    ($($id:literal $name:ident,)*) => {
        #[allow(missing_docs, reason = "the names are the service's own")]
        impl ErrorId {
            $(pub const $name: Self = Self($id);)*

            /// `ErrorCode`, the name that goes with the id.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($id => stringify!($name),)*
                    _ => "UNKNOWN_ERROR",
                }
            }
        }
    };
}

error_ids! {
    4000 STREAM_READ_ERROR,
    4001 MAX_FRAGMENT_SIZE_REACHED,
    4002 MAX_FRAGMENT_DURATION_REACHED,
    4003 MAX_CONNECTION_DURATION_REACHED,
    4004 FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS,
    4005 MORE_THAN_ALLOWED_TRACKS_FOUND,
    4006 INVALID_MKV_DATA,
    4007 INVALID_PRODUCER_TIMESTAMP,
    4008 STREAM_NOT_ACTIVE,
    4009 FRAGMENT_METADATA_LIMIT_REACHED,
    4010 TRACK_NUMBER_MISMATCH,
    4011 FRAMES_MISSING_FOR_TRACK,
    4012 MORE_THAN_ALLOWED_TRACKS,
    4500 KMS_KEY_ACCESS_DENIED,
    4501 KMS_KEY_DISABLED,
    4502 KMS_KEY_VALIDATION_ERROR,
    4503 KMS_KEY_UNAVAILABLE,
    4504 KMS_KEY_INVALID_USAGE,
    4505 KMS_KEY_INVALID_STATE,
    4506 KMS_KEY_NOT_FOUND,
    4507 STREAM_DELETED,
    5000 INTERNAL_ERROR,
    5001 ARCHIVAL_ERROR,
}

impl fmt::Display for ErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

/// Why media was refused: the id the service would send, and what exactly was wrong for whoever reads the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rejection {
    pub(crate) id: ErrorId,
    pub(crate) detail: String,
}

impl Rejection {
    pub(crate) fn new(id: ErrorId, detail: impl Into<String>) -> Self {
        Self { id, detail: detail.into() }
    }

    pub(crate) fn invalid_mkv(detail: impl Into<String>) -> Self {
        Self::new(ErrorId::INVALID_MKV_DATA, detail)
    }
}

/// An HTTP error response in the form of the restJson1 protocol: `x-amzn-ErrorType` names the error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServiceError {
    pub(crate) status: u16,
    pub(crate) error_type: Cow<'static, str>,
    pub(crate) message: String,
    /// The service's own errors spell the member `Message`; those of the front end that authenticates, `message`.
    modelled: bool,
}

impl ServiceError {
    /// An error of the Kinesis Video Streams model.
    pub(crate) fn modelled(status: u16, error_type: &'static str, message: impl Into<String>) -> Self {
        Self { status, error_type: error_type.into(), message: message.into(), modelled: true }
    }

    /// An error of the front end: authentication, HTTP itself.
    pub(crate) fn front_end(status: u16, error_type: &'static str, message: impl Into<String>) -> Self {
        Self { status, error_type: error_type.into(), message: message.into(), modelled: false }
    }

    /// An error a test ordered: what is not given is filled in with what usually goes with the status.
    pub(crate) fn ordered(status: u16, error_type: Option<String>, message: Option<String>) -> Self {
        let usual = match status {
            400 => ("ClientLimitExceededException", "Rate exceeded"),
            401 => ("NotAuthorizedException", "The caller is not authorized to perform this operation."),
            403 => ("AccessDeniedException", "User is not authorized to perform this operation."),
            404 => ("ResourceNotFoundException", "The requested stream is not found or not active."),
            429 => ("ThrottlingException", "Rate exceeded"),
            503 => ("ServiceUnavailableException", "Service Unavailable"),
            _ => ("InternalFailure", "Internal failure"),
        };
        Self {
            status,
            error_type: error_type.map_or(Cow::Borrowed(usual.0), Cow::Owned),
            message: message.unwrap_or_else(|| usual.1.to_owned()),
            modelled: !matches!(status, 403 | 500..),
        }
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::modelled(400, "InvalidArgumentException", message)
    }

    pub(crate) fn not_found(stream: &str) -> Self {
        Self::modelled(
            404,
            "ResourceNotFoundException",
            format!("The requested stream {stream} is not found or not active."),
        )
    }

    pub(crate) fn body(&self) -> String {
        let key = if self.modelled { "Message" } else { "message" };
        serde_json::json!({ key: self.message }).to_string()
    }
}
