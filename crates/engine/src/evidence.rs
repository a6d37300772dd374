//! Evidence: what a person sees when a gate waits, as canonical JSON (RFC 8785) with its SHA-256.

use flywheel_api::schema::Digest;
use serde::{Deserialize, Serialize};

/// Evidence in the form that is stored and that an Approval names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// SHA-256 of `json`.
    pub digest: Digest,
    /// Canonical JSON.
    pub json: String,
}

/// Canonical form and digest of a value that serialises as JSON.
///
/// # Errors
/// If the value cannot be written as JSON, such as a map with keys that are no texts.
pub fn freeze<T: Serialize>(value: &T) -> Result<Frozen, serde_json::Error> {
    use sha2::Digest as _;
    let json = String::from_utf8_lossy(&serde_json_canonicalizer::to_vec(value)?).into_owned();
    let digest = Digest(format!("sha256:{:x}", Hex(&sha2::Sha256::digest(json.as_bytes()))));
    Ok(Frozen { digest, json })
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
