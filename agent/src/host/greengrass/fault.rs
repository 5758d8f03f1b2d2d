//! Why a call to the nucleus failed.

use serde_json::Value;

/// Why a call to the nucleus failed, by what can be done about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The component's access control does not allow it.
    #[error("the nucleus does not allow it ({0}): add it to `accessControl` in the component's configuration")]
    Unauthorized(String),
    /// This nucleus does not have the operation.
    #[error("this nucleus does not have it ({0})")]
    Unsupported(String),
    /// What was asked for is not there.
    #[error("the nucleus does not have it: {0}")]
    NotFound(String),
    /// Any other answer that says no: it may say yes later.
    #[error("the nucleus refuses it: {0}")]
    Refused(String),
    /// A message of this many bytes is more than this nucleus takes.
    #[error("{0} bytes are more than this nucleus takes")]
    TooLarge(usize),
    /// There is no connection, or it ended before the answer.
    #[error("no connection to the nucleus: {0}")]
    Closed(String),
    /// No answer in time.
    #[error("the nucleus does not answer")]
    Silent,
}

impl Fault {
    /// From an error's model (`aws.greengrass#UnauthorizedError`) and its payload.
    pub(super) fn new(model: &str, payload: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(payload).unwrap_or_default();
        let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let code = text("_errorCode").unwrap_or_default();
        let kind = model.rsplit('#').next().filter(|kind| !kind.is_empty()).unwrap_or(code);
        let message = text("message").or_else(|| text("_message")).unwrap_or(kind);
        let message: String = message.chars().filter(|c| !c.is_control()).take(300).collect();
        let is = |name: &str| kind == name || code == name;
        match () {
            () if is("UnauthorizedError") || is("AccessDenied") => Self::Unauthorized(message),
            () if is("ResourceNotFoundError") => Self::NotFound(message),
            // The classic nucleus says so in words, as a ServiceError; nucleus lite as a ServiceError without any.
            () if is("UnsupportedOperation") || message.contains("not supported") => Self::Unsupported(message),
            () if is("ServiceError") && message == kind => Self::Unsupported("an error without a reason".to_owned()),
            () => Self::Refused(message),
        }
    }

    /// Whether asking again soon makes sense: nothing but time has to pass.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Closed(_) | Self::Silent | Self::Refused(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_both_nuclei() {
        for (model, payload, wanted) in [
            ("aws.greengrass#UnauthorizedError", r#"{"message":"no"}"#, Fault::Unauthorized("no".to_owned())),
            (
                "aws.greengrass#ServiceError",
                r#"{"message":"Operation aws.greengrass#X is not supported by Greengrass"}"#,
                Fault::Unsupported("Operation aws.greengrass#X is not supported by Greengrass".to_owned()),
            ),
            (
                "aws.greengrass#ServiceError",
                r#"{"_message":"","_errorCode":"ServiceError"}"#,
                Fault::Unsupported("an error without a reason".to_owned()),
            ),
            (
                "aws.greengrass#ServiceError",
                r#"{"_message":"Failed to publish the message.","_errorCode":"ServiceError"}"#,
                Fault::Refused("Failed to publish the message.".to_owned()),
            ),
            ("aws.greengrass#ResourceNotFoundError", "{}", Fault::NotFound("ResourceNotFoundError".to_owned())),
            ("", r#"{"_errorCode":"UnauthorizedError"}"#, Fault::Unauthorized("UnauthorizedError".to_owned())),
            ("", "no JSON", Fault::Refused(String::new())),
        ] {
            assert_eq!(Fault::new(model, payload.as_bytes()), wanted, "{model} {payload}");
        }
    }
}
