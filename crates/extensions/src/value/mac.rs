//! Message authentication by a shared key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// The HMAC-SHA-256 (RFC 2104) of the parts of a message, for a key of any length.
pub fn hmac_sha256(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    // A key that is longer than a block is hashed; a shorter one is filled up with zero bytes.
    match block.get_mut(..key.len()) {
        Some(begin) => begin.copy_from_slice(key),
        None => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let mut mac = Hmac::<Sha256>::new(&block.into());
    message.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_give_what_the_standard_says() {
        for length in [0, 1, 63, 64, 65, 200] {
            let key = vec![7; length];
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(b"a message");
            assert_eq!(hmac_sha256(&key, &[b"a ", b"message"]), *mac.finalize().into_bytes(), "{length}");
        }
    }
}
