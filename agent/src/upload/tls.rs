//! TLS to AWS: rustls with aws-lc-rs, the system's CA certificates or those of AWS_CA_BUNDLE.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::config::identity::environment;

/// The file AWS_CA_BUNDLE names, as all AWS SDKs understand it.
pub(crate) fn ca_bundle() -> Option<PathBuf> {
    environment("AWS_CA_BUNDLE").map(PathBuf::from)
}

/// A client configuration; the error is for a person. Takes a while, and reads files.
pub(crate) fn client_config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match ca_bundle() {
        Some(path) => {
            let shown = path.display().to_string();
            let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&path)
                .and_then(Iterator::collect)
                .map_err(|error| format!("AWS_CA_BUNDLE: {shown} cannot be read: {error}"));
            found?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err("no CA certificates on this system: install ca-certificates or set AWS_CA_BUNDLE".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // For its first random number aws-lc gathers entropy, 50 ms of a fast processor: here rather than in a handshake.
    provider.secure_random.fill(&mut [0]).map_err(|_| "the system has no random numbers".to_owned())?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
