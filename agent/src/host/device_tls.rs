//! TLS to devices: whether a camera's certificate is to be trusted, and what to do when it is not.
//!
//! Cameras sign their own certificates, often without the names or the extensions that a public CA would put in. So a
//! certificate in `ca_file` is trusted in two ways: as an authority, and, byte for byte, as the camera's own.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

/// A client configuration that trusts what was configured. Reads files: not to be called on the runtime.
pub(crate) fn client_config(ca_file: Option<&Path>, insecure: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = if insecure { Trust::Anything } else { trusted(ca_file, provider.clone())? };
    let verifier = Arc::new(CameraVerifier { trust, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn trusted(ca_file: Option<&Path>, provider: Arc<CryptoProvider>) -> Result<Trust, String> {
    let mut roots = RootCertStore::empty();
    let pinned = match ca_file {
        Some(path) => {
            let certificates = read_pem(path)?;
            // What cannot serve as an authority may still be the camera's own.
            roots.add_parsable_certificates(certificates.iter().cloned());
            certificates
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Vec::new()
        }
    };
    if roots.is_empty() {
        if pinned.is_empty() {
            return Err("this machine has no CA certificates: install ca-certificates, or set ca_file".to_owned());
        }
        return Ok(Trust::Only { authorities: None, pinned });
    }
    let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(Trust::Only { authorities: Some(authorities.map_err(|error| error.to_string())?), pinned })
}

fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("ca_file {shown} cannot be read: {error}"))?;
    if certificates.is_empty() { Err(format!("ca_file {shown} holds no certificate (PEM)")) } else { Ok(certificates) }
}

#[derive(Debug)]
enum Trust {
    /// Asked for in the config.
    Anything,
    Only {
        authorities: Option<Arc<WebPkiServerVerifier>>,
        pinned: Vec<CertificateDer<'static>>,
    },
}

#[derive(Debug)]
struct CameraVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CameraVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trust::Only { authorities, pinned } = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        if pinned.contains(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match authorities {
            Some(webpki) => webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    // The handshake's signatures are checked whatever is trusted: they prove that the camera has the key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a failed handshake means, for a person.
pub(crate) fn handshake_failure(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    let advice = match inner {
        Some(TlsError::InvalidCertificate(reason)) => match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                ": no CA that is trusted here has signed it. Put the camera's certificate, or its CA's, into ca_file"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ": it was made for another name. Use that name in the URL, or put the certificate into ca_file"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                ": is the time of this machine right?"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ": is the time of this machine right?"
            }
            _ => ". If it is the camera's own, put it into ca_file",
        },
        Some(TlsError::InvalidMessage(_)) => ": what listens there does not speak TLS; is the port right?",
        _ => "",
    };
    format!("the TLS handshake failed ({error}){advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_failures_say_what_to_do() {
        let check = |error: TlsError, says: &str| {
            let text = handshake_failure(&io::Error::new(io::ErrorKind::InvalidData, error));
            assert!(text.contains(says), "{text}");
        };
        check(CertificateError::UnknownIssuer.into(), "ca_file");
        check(CertificateError::Expired.into(), "time of this machine");
        check(CertificateError::NotValidForName.into(), "another name");
        check(rustls::InvalidMessage::InvalidContentType.into(), "speak TLS");
    }
}
