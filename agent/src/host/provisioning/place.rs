//! The directory for key and certificate.
//!
//! Invariants: nothing that is there is overwritten; a file appears as a whole or not at all; the key is there before its
//! certificate, and readable by its owner alone. One that waits for its certificate is used again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustix::fs::{FlockOperation, flock};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;

use super::{ProvisioningError, Step};
use crate::host::certificate::{Identity, Loaded};

const CERTIFICATE: &str = "device.pem";
const KEY: &str = "device.key";
/// A file that is not complete has this at its end.
const NEW: &str = ".new";
/// Endings of certificates.
const ENDINGS: [&str; 4] = ["pem", "crt", "cer", "der"];
const KEY_MOST: u64 = 16 << 10;

/// A directory without a certificate, and the key for one.
pub(super) struct Place {
    directory: PathBuf,
    key: KeyPair,
    /// Locked, so that two of us do not share a key.
    handle: File,
}

impl Place {
    /// Opens the directory, making it and the key if they are missing. Certificates that are `known` may be in it.
    pub(super) fn open(directory: &Path, known: &[PathBuf]) -> Result<Self, String> {
        let shown = directory.display();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let handle = made.and_then(|()| File::open(directory)).map_err(|error| format!("{shown}: {error}"))?;
        flock(&handle, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("{shown}: another `edgecam provision` is at work there"))?;
        let found = certificate_in(directory, known).map_err(|error| format!("{shown}: {error}"))?;
        if let Some(found) = found {
            return Err(format!(
                "{} is there already: this device may have its identity; nothing was asked for and nothing changed",
                found.display()
            ));
        }
        let path = directory.join(KEY);
        let key = match File::open(&path) {
            Ok(file) => read_key(file).map_err(|error| format!("{}: {error}", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_key(&path, &handle).map_err(|error| format!("{}: {error}", path.display()))?
            }
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        Ok(Self { directory: directory.to_owned(), key, handle })
    }

    /// A request for a certificate, signed with the key (PEM).
    pub(super) fn request(&self, common_name: &str) -> Result<String, String> {
        let sign = || {
            let mut parameters = CertificateParams::new(Vec::new())?;
            parameters.distinguished_name.push(DnType::CommonName, common_name);
            parameters.serialize_request(&self.key)?.pem()
        };
        sign().map_err(|error: rcgen::Error| format!("no certificate can be requested: {error}"))
    }

    /// Writes the certificate beside its place: what the disk has against it shows before AWS IoT knows the device.
    pub(super) fn keep(&mut self, certificate: &str) -> Result<(), ProvisioningError> {
        let path = self.directory.join(format!("{CERTIFICATE}{NEW}"));
        write(&path, certificate.as_bytes(), 0o644)
            .map_err(|error| ProvisioningError::Directory(format!("{}: {error}", path.display())))?;
        let identity = Identity { certificate: path, private_key: self.directory.join(KEY) };
        let belongs = identity.load().and_then(|Loaded { chain, key, .. }| {
            CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => "the certificate is not for this device's key".to_owned(),
                error => format!("the certificate is not one that TLS can use: {error}"),
            })
        });
        belongs.map(drop).map_err(|reason| ProvisioningError::Answer { step: Step::Certificate, reason })
    }

    /// Gives the certificate its name.
    pub(super) fn finish(&mut self) -> Result<Identity, String> {
        let path = self.directory.join(CERTIFICATE);
        let finish = || {
            // The directory is locked, so only a stranger could have put one there meanwhile.
            if fs::symlink_metadata(&path).is_ok() {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            fs::rename(self.directory.join(format!("{CERTIFICATE}{NEW}")), &path)?;
            self.handle.sync_all()
        };
        finish().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Identity { certificate: path, private_key: self.directory.join(KEY) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Missing once it has its name. One that a killed process leaves is overwritten by the next.
        fs::remove_file(self.directory.join(format!("{CERTIFICATE}{NEW}"))).ok();
    }
}

/// A certificate in the directory.
fn certificate_in(directory: &Path, known: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    let known: Vec<PathBuf> = known.iter().filter_map(|path| path.canonicalize().ok()).collect();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_certificate = path.extension().is_some_and(|ending| ENDINGS.iter().any(|other| ending == *other));
        if is_certificate && !path.canonicalize().is_ok_and(|path| known.contains(&path)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The key of a run that got no certificate.
fn read_key(file: File) -> Result<KeyPair, String> {
    let mode = file.metadata().map_err(|error| error.to_string())?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("others can read this key (mode {mode:o}): remove it, and a new one is made"));
    }
    let mut text = String::new();
    let read = file.take(KEY_MOST).read_to_string(&mut text);
    let key = read
        .map_err(|error| error.to_string())
        .and_then(|_| KeyPair::from_pem(&text).map_err(|_| "it holds no private key (PEM)".to_owned()));
    let key = key.map_err(|error| format!("{error}: move it away, and a new one is made"))?;
    if !key.is_compatible(&PKCS_ECDSA_P256_SHA256) {
        return Err("this key is not P-256, so not ours: move it away, and a new one is made".to_owned());
    }
    Ok(key)
}

fn make_key(path: &Path, directory: &File) -> io::Result<KeyPair> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let new = path.with_file_name(format!("{KEY}{NEW}"));
    write(&new, key.serialize_pem().as_bytes(), 0o600)?;
    fs::rename(&new, path)?;
    directory.sync_all()?;
    Ok(key)
}

/// Writes a file to the medium. One of that name is left over from a process that was killed.
fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Directory(PathBuf);

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn directory(test: &str) -> Directory {
        Directory(std::env::temp_dir().join(format!("edgecam-provisioning-{}-{test}", std::process::id())))
    }

    fn signed(key: &KeyPair) -> String {
        CertificateParams::new(Vec::new()).and_then(|it| it.self_signed(key)).expect("signed").pem()
    }

    #[test]
    fn a_key_waits_for_its_certificate() {
        let directory = directory("waits");
        let at = &directory.0;
        let mut place = Place::open(at, &[]).expect("empty");
        let mode = |path: PathBuf| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(at.clone()), mode(at.join(KEY))), (0o700, 0o600));
        assert!(place.request("7").expect("signed").starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        let error = Place::open(at, &[]).err().expect("locked");
        assert!(error.contains("another `edgecam provision`"), "{error}");
        place.keep(&signed(&place.key)).expect("ours");
        drop(place);
        assert_eq!(fs::read_dir(at).expect("there").count(), 1, "only the key stays");
        let text = fs::read(at.join(KEY)).expect("there");
        let mut place = Place::open(at, &[]).expect("no certificate");
        assert_eq!(fs::read(at.join(KEY)).expect("there"), text);
        let other = KeyPair::generate().expect("a key");
        let error = place.keep(&signed(&other)).expect_err("another's").to_string();
        assert!(error.contains("not for this device's key"), "{error}");
        let nonsense = signed(&place.key).replace("MII", "AAA");
        for (text, says) in
            [("x", "holds no certificate"), ("-----BEGIN X-----", "not PEM"), (&nonsense, "TLS can use")]
        {
            let error = place.keep(text).expect_err("nothing").to_string();
            assert!(error.contains(says), "{error}");
        }
        place.keep(&signed(&place.key)).expect("ours");
        let identity = place.finish().expect("named");
        drop(place);
        assert!(identity.load().is_ok());
        let error = Place::open(at, &[]).err().expect("there is one");
        assert!(error.contains("device.pem is there already"), "{error}");
    }

    #[test]
    fn what_is_there_is_not_touched() {
        let directory = directory("there");
        let at = &directory.0;
        fs::create_dir_all(at).expect("made");
        for (name, content, mode, says) in [
            ("old.crt", "x", 0o644, "old.crt is there already"),
            (KEY, "x", 0o600, "holds no private key"),
            (KEY, "x", 0o644, "others can read this key (mode 644)"),
            (CERTIFICATE, "x", 0o644, "device.pem is there already"),
        ] {
            fs::write(at.join(name), content).expect("written");
            fs::set_permissions(at.join(name), PermissionsExt::from_mode(mode)).expect("set");
            let error = Place::open(at, &[]).err().expect(says);
            assert!(error.contains(says), "{error}");
            assert_eq!(fs::read(at.join(name)).expect("there"), content.as_bytes());
            fs::remove_file(at.join(name)).expect("removed");
        }
        fs::write(at.join("claim.pem"), "x").expect("written");
        Place::open(at, &[at.join("claim.pem")]).expect("the claim's own");
        fs::write(at.join(CERTIFICATE), "x").expect("written");
        let mut place = Place {
            directory: at.clone(),
            key: KeyPair::generate().expect("a key"),
            handle: File::open(at).expect("there"),
        };
        place.keep(&signed(&place.key)).expect_err("the key on disk is another");
        place.finish().expect_err("one has come meanwhile");
        assert_eq!(fs::read(at.join(CERTIFICATE)).expect("there"), b"x");
    }
}
