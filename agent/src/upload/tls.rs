//! TLS to AWS: rustls with aws-lc-rs, the system's CA certificates or those of AWS_CA_BUNDLE.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::config::identity::environment;

/// The file AWS_CA_BUNDLE names, as all AWS SDKs understand it.
pub(crate) fn ca_bundle() -> Option<PathBuf> {
    environment("AWS_CA_BUNDLE").map(PathBuf::from)
}

/// A client configuration; the error is for a person. Takes a while, and reads files.
pub(crate) fn client_config() -> Result<Arc<ClientConfig>, String> {
    Ok(Arc::new(trusting(None)?.with_no_client_auth()))
}

/// A client configuration that trusts the CA certificates of a file, or else the usual ones. Takes a while, and reads
/// files; the error is for a person.
pub(crate) fn trusting(ca_file: Option<&Path>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let mut roots = RootCertStore::empty();
    let bundle = ca_bundle();
    let file = ca_file.map(|path| ("ca_file", path)).or(bundle.as_deref().map(|path| ("AWS_CA_BUNDLE", path)));
    let certificates = match file {
        Some((name, path)) => {
            let shown = path.display();
            let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| format!("{name}: {shown} cannot be read: {error}"));
            found?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(match file {
            Some((name, path)) => format!("{name}: {} holds no CA certificate (PEM)", path.display()),
            None => "no CA certificates on this system: install ca-certificates or set AWS_CA_BUNDLE".to_owned(),
        });
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // For its first random number aws-lc gathers entropy, 50 ms of a fast processor: here rather than in a handshake.
    provider.secure_random.fill(&mut [0]).map_err(|_| "the system has no random numbers".to_owned())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(builder.with_root_certificates(roots))
}
