//! A device's URL, and who one is there: from the URL itself, or from keys beside it.

use std::path::PathBuf;

use url::Url;

use super::check::{Result, secret_file, wrong};
use super::identity;
use super::secret::Secret;
use super::source::Credentials;

/// As written.
pub(super) struct Access<'a> {
    pub(super) url: &'a str,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
}

impl Access<'_> {
    /// The URL without user and password, and these. `key` is for messages.
    pub(super) fn check(self, key: &str, schemes: &[&str]) -> Result<(Url, Option<Credentials>)> {
        // The text itself may hold a password: it is not repeated in the message.
        let Ok(mut url) = Url::parse(self.url) else {
            return wrong(
                &format!("{key}.url"),
                "is not a URL; special characters in user and password are percent-encoded",
            );
        };
        if !schemes.contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
            let schemes = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
            return wrong(&format!("{key}.url"), format_args!("must begin with {schemes} and name a host"));
        }
        let mut username = Some(percent_decode(url.username())).filter(|name| !name.is_empty());
        let mut password = url.password().map(|password| Secret::new(percent_decode(password)));
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return wrong(&format!("{key}.url"), "cannot be used without its user and password");
        }
        if let Some(name) = self.username {
            username = Some(name);
        }
        match (self.password_file, self.password_env) {
            (Some(_), Some(_)) => return wrong(key, "password_file and password_env: give one of them"),
            (Some(path), None) => password = Some(secret_file(&format!("{key}.password_file"), &path)?),
            (None, Some(name)) => match identity::environment(&name) {
                Some(value) => password = Some(Secret::new(value)),
                None => {
                    return wrong(&format!("{key}.password_env"), format_args!("{name} is not set in the environment"));
                }
            },
            (None, None) => {}
        }
        let credentials = match (username, password) {
            (Some(username), password) => {
                Some(Credentials { username, password: password.unwrap_or_else(|| Secret::new("")) })
            }
            (None, Some(_)) => return wrong(key, "a password without a username"),
            (None, None) => None,
        };
        Ok((url, credentials))
    }
}

pub(crate) fn percent_decode(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// A camera's URL that came from elsewhere, without user and password, and these. The message does not repeat it.
pub(crate) fn camera_url(url: &str) -> std::result::Result<(Url, Option<Credentials>), String> {
    let access = Access { url, username: None, password_file: None, password_env: None };
    access.check("it", &["rtsp", "rtsps"]).map_err(|error| error.to_string())
}
