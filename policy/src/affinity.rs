//! The cookie that keeps a client at its region.
//!
//! Its value is `EXPIRES.MAC.REGION`: Unix seconds in hexadecimal, the first 128 bits of an
//! HMAC-SHA256 (RFC 2104) over route, region and expiry, and the region's name. A cookie names a
//! region; whether the client may have it is the decision's to say, each time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The key that a table's cookies are signed with.
#[derive(Clone)]
pub struct AffinityKey(Hmac<Sha256>);

/// What a sound cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin<'a> {
    /// The region's name. It may be one that the table no longer has.
    pub region: &'a str,
    /// When it ends, in Unix seconds.
    pub expires: u64,
}

/// Bytes of the MAC that a cookie carries.
const MAC_BYTES: usize = 16;

impl AffinityKey {
    /// Makes a key from a secret, or from anything that outsiders do not know.
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("an HMAC takes a key of any length"))
    }

    /// Returns the value of a cookie that pins a client of a route to a region until `expires`, in Unix seconds.
    pub fn seal(&self, route: &str, region: &str, expires: u64) -> String {
        let mac = self.mac(route, region, expires).finalize().into_bytes();
        let mut value = format!("{expires:x}.");
        mac.iter().take(MAC_BYTES).for_each(|byte| value.push_str(&format!("{byte:02x}")));
        value.push('.');
        value.push_str(region);
        value
    }

    /// Returns what a cookie says, if this key made it for this route and its time is not over at `now`, in Unix
    /// seconds. Forged, stale and foreign values say nothing.
    pub fn open<'a>(&self, route: &str, value: &'a str, now: u64) -> Option<Pin<'a>> {
        let (expires, rest) = value.split_once('.')?;
        let (mac, region) = rest.split_once('.')?;
        // One value for one pin: no sign, no leading zero, no upper case.
        let number = u64::from_str_radix(expires, 16).ok().filter(|number| format!("{number:x}") == expires)?;
        let mac = from_hex(mac)?;
        // In constant time.
        self.mac(route, region, number).verify_truncated_left(&mac).ok()?;
        (now < number).then_some(Pin { region, expires: number })
    }

    /// Returns what stands for a client's key where nobody shall find out its address by trying: another number,
    /// always the same under this key.
    pub fn pseudonym(&self, client_key: u64) -> u64 {
        let parts: [&[u8]; 2] = [b"meridian pseudonym 1\0", &client_key.to_be_bytes()];
        let mac = parts.into_iter().fold(self.0.clone(), |mac, part| mac.chain_update(part)).finalize().into_bytes();
        mac.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn mac(&self, route: &str, region: &str, expires: u64) -> Hmac<Sha256> {
        // Names have no NUL: no two pins are the same bytes.
        let parts: [&[u8]; 6] =
            [b"meridian affinity 1\0", route.as_bytes(), &[0], region.as_bytes(), &[0], &expires.to_be_bytes()];
        parts.into_iter().fold(self.0.clone(), |mac, part| mac.chain_update(part))
    }
}

impl std::fmt::Debug for AffinityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AffinityKey")
    }
}

fn from_hex(text: &str) -> Option<[u8; MAC_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * MAC_BYTES {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; MAC_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_says_what_was_sealed_until_its_time() {
        let key = AffinityKey::new(b"secret");
        let value = key.seal("api", "eu-west-1", 1_000);
        let pin = Pin { region: "eu-west-1", expires: 1_000 };
        assert_eq!(key.open("api", &value, 0), Some(pin));
        assert_eq!(key.open("api", &value, 999), Some(pin));
        assert_eq!(key.open("api", &value, 1_000), None, "stale");
        assert_eq!(key.open("other", &value, 0), None, "of another route");
        assert_eq!(AffinityKey::new(b"Secret").open("api", &value, 0), None, "of another key");
        assert_eq!(AffinityKey::new(b"secret").open("api", &value, 0), Some(pin), "of another node");
    }

    #[test]
    fn every_changed_byte_makes_a_forgery() {
        let key = AffinityKey::new(b"secret");
        let value = key.seal("api", "eu", 0xfff0);
        for index in 0..value.len() {
            for byte in (0x20..0x7f).filter(|byte| *byte != value.as_bytes()[index]) {
                let mut forged = value.clone().into_bytes();
                forged[index] = byte;
                let forged = String::from_utf8(forged).unwrap_or_default();
                assert_eq!(key.open("api", &forged, 0), None, "{forged}");
            }
            assert_eq!(key.open("api", &value[..index], 0), None);
        }
        for forged in ["", ".", "..", "a..eu", &format!("0{value}"), &format!("+{value}"), &format!("{value} ")] {
            assert_eq!(key.open("api", forged, 0), None, "{forged}");
        }
    }
}
