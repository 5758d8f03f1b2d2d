//! Certificates made for one test: an authority and what it issues.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::Scratch;

/// Issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, on disk.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server's or client's certificate with this common name, for these host names, up to this year.
    pub(crate) fn issue(&self, scratch: &Scratch, name: &str, hosts: &[&str], last_year: i32) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("host names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let issued = Issued {
            certificate: scratch.write(&format!("{name}.pem"), certificate.pem()),
            key: scratch.write(&format!("{name}.key"), key.serialize_pem()),
        };
        set_mode(&issued.key, 0o600);
        issued
    }

    /// Signs a request (PEM) as it is, once openssl has found it well-formed and signed with its own P-256 key.
    pub(crate) fn sign(&self, scratch: &Scratch, name: &str, request: &str) -> Result<String, String> {
        let request = scratch.write(&format!("{name}.csr"), request).display().to_string();
        let said = openssl(&["req", "-in", &request, "-verify", "-noout", "-text"])?;
        if !said.contains("ASN1 OID: prime256v1") || !said.contains("ecdsa-with-SHA256") {
            return Err(said);
        }
        let (ca, key) = (scratch.write("signer.pem", &self.pem), scratch.join("signer.key"));
        std::fs::write(&key, self.issuer.key().serialize_pem()).expect("written");
        let (ca, key) = (ca.display().to_string(), key.display().to_string());
        // With extensions it is of version 3, as AWS IoT's are.
        let extensions = scratch.write("signer.ext", "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n");
        let extensions = extensions.display().to_string();
        let how = ["-CA", &ca, "-CAkey", &key, "-CAcreateserial", "-days", "3650", "-extfile", &extensions];
        openssl(&[&["x509", "-req", "-in", &request], &how[..]].concat())
    }
}

/// What openssl writes.
fn openssl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode is set");
}
