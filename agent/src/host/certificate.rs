//! The device's own certificate and key: read, checked, and how long they last.
//!
//! Invariant: a key that others can read is not used. Deliberately absent: whether a broker accepts the certificate.

mod der;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use edgecam_media::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::identity::environment;

/// Before its end a certificate is warned of.
pub const WARN_DAYS: i64 = 30;
const SECONDS_PER_DAY: i64 = 24 * 3600;

/// Where the device's certificate and key are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Certificate and those between it and its CA (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM), readable by nobody else.
    pub private_key: PathBuf,
}

/// A certificate and key that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The device's certificate comes first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// End of the device's certificate, if it could be read.
    pub expires: Option<Timestamp>,
}

impl Identity {
    /// Reads both files. The error is for a person. Not to be called on the runtime.
    pub fn load(&self) -> Result<Loaded, String> {
        let chain = read(&self.certificate, |_, _| Ok(()))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let shown = self.certificate.display();
        let chain = chain.map_err(|error| format!("certificate {shown} is not PEM: {error}"))?;
        let Some(first) = chain.first() else { return Err(format!("{shown} holds no certificate (PEM)")) };
        let expires = der::not_after(first).map(|seconds| Timestamp::from_unix_millis(seconds.saturating_mul(1000)));
        let key = read(&self.private_key, is_private)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| format!("{} holds no private key (PEM, without a password)", self.private_key.display()))?;
        Ok(Loaded { chain, key, expires })
    }
}

fn read(path: &Path, check: impl Fn(&Path, &File) -> io::Result<()>) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        check(path, &file)?;
        file.read_to_end(&mut content)
    });
    read.map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
    Ok(content)
}

/// systemd hands credentials out as root's, readable by a group through which only the service gets at them.
fn is_private(path: &Path, file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let is_credential = metadata.uid() == 0
        && environment("CREDENTIALS_DIRECTORY").is_some_and(|directory| path.starts_with(directory));
    let forbidden = if is_credential { 0o007 } else { 0o077 };
    if metadata.mode() & forbidden == 0 {
        return Ok(());
    }
    let text = format!("others can read this key (mode {:o}): chmod 600 {}", metadata.mode() & 0o777, path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// What is to be said about the end of a certificate, if anything.
pub fn warning(expires: Timestamp, now: Timestamp) -> Option<String> {
    let days = (expires.unix_seconds() - now.unix_seconds()).div_euclid(SECONDS_PER_DAY);
    let date = date(expires);
    match days {
        ..0 => Some(format!("this device's certificate expired on {date}, or its clock is wrong: replace it")),
        0..WARN_DAYS => Some(format!("this device's certificate expires on {date}, in {days} days: replace it")),
        _ => None,
    }
}

/// The day, in UTC.
pub(crate) fn date(at: Timestamp) -> String {
    let day = jiff::Timestamp::from_second(at.unix_seconds()).map(|at| at.strftime("%Y-%m-%d").to_string());
    day.unwrap_or_else(|_| format!("{} s after 1970", at.unix_seconds()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_a_month_ahead() {
        let end = Timestamp::from_unix_millis(2_000_000_000_000);
        let before = |days: i64| Timestamp::from_unix_millis(end.unix_millis() - days * SECONDS_PER_DAY * 1000 - 1000);
        assert_eq!(warning(end, before(30)), None);
        assert!(warning(end, before(29)).is_some_and(|text| text.contains("2033-05-18, in 29 days")));
        assert!(warning(end, before(-2)).is_some_and(|text| text.contains("expired on 2033-05-18")));
    }

    #[test]
    fn keys_that_others_can_read_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("edgecam-certificate-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let signed = rcgen::generate_simple_self_signed(vec!["gw".to_owned()]).expect("a certificate");
        let identity = Identity { certificate: directory.join("c.pem"), private_key: directory.join("k.pem") };
        std::fs::write(&identity.certificate, signed.cert.pem()).expect("written");
        std::fs::write(&identity.private_key, signed.signing_key.serialize_pem()).expect("written");
        for (mode, is_used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o660, false)] {
            std::fs::set_permissions(&identity.private_key, PermissionsExt::from_mode(mode)).expect("set");
            match identity.load() {
                Ok(loaded) => assert!(is_used && loaded.expires.is_some(), "{mode:o}"),
                Err(error) => assert!(!is_used && error.contains("chmod 600"), "{mode:o}: {error}"),
            }
        }
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
