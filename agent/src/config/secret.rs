//! Text that must never be printed.

use std::fmt;

/// A password or token. `Debug` and `Display` show only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// `url` without user, password, query and fragment: query strings of cameras carry passwords too.
pub fn redact_url(url: &url::Url) -> String {
    let mut shown = url.clone();
    // These fail only for URLs that cannot have a user, which then have nothing to hide.
    if !shown.username().is_empty() && shown.set_username("").is_err() {
        return format!("{}://[redacted]", url.scheme());
    }
    if shown.password().is_some() && shown.set_password(None).is_err() {
        return format!("{}://[redacted]", url.scheme());
    }
    if shown.query().is_some() {
        shown.set_query(Some("[redacted]"));
    }
    shown.set_fragment(None);
    // Some cameras carry them in the path: /user=admin_password=..._channel=1.
    let path = shown.path().to_ascii_lowercase();
    if ["password=", "passwd=", "pwd="].iter().any(|key| path.contains(key)) {
        shown.set_path("/[redacted]");
    }
    shown.to_string()
}
