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

/// `text` with the user and password of every URL in it, and its query, left out.
pub fn redact_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let scheme = before.bytes().rev().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'+').count();
        let (plain, scheme) = before.split_at(before.len() - scheme);
        let end = after.find(|c: char| c.is_whitespace() || "\"',}]".contains(c)).unwrap_or(after.len());
        let (url, left) = after.split_at(end);
        shown.push_str(plain);
        match url::Url::parse(&format!("{scheme}://{url}")) {
            Ok(url) => shown.push_str(&redact_url(&url)),
            Err(_) => shown.push_str("[redacted]"),
        }
        rest = left;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_in_a_text_lose_their_secrets() {
        let text = "cameras: [{name: é, rtsp: {url: \"rtsp://admin:pa%20ss@10.0.0.9/1?pw=x\", transport: tcp}}]\nproxy: http://u:p@h:1/ # x";
        let shown = redact_text(text);
        assert!(!shown.contains("pa%20ss") && !shown.contains("pw=x") && !shown.contains("u:p"), "{shown}");
        assert!(shown.contains("rtsp://10.0.0.9/1") && shown.ends_with("# x") && shown.contains("name: é"), "{shown}");
        assert_eq!(redact_text("plain"), "plain");
        assert_eq!(redact_text("é://u:p@h é"), "é[redacted] é");
    }
}
