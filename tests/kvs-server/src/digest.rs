//! Hashes and other bytes as the records write them.

use sha2::{Digest, Sha256};

/// The hash that is recorded of a frame: the first 8 bytes of its SHA-256, in hexadecimal.
#[must_use]
pub fn payload_hash(frame: &[u8]) -> String {
    short_hex(&Sha256::digest(frame))
}

pub(crate) fn short_hex(hash: &[u8]) -> String {
    hex(hash.get(..8).unwrap_or(hash))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
        text
    })
}
