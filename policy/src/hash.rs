//! Hashes of client keys: the same on every node, platform and version.

/// Returns the hash of a client's identity (an address, a cookie): FNV-1a, 64 bits, finished by SplitMix64's mix
/// because FNV's high bits are weak for short keys.
pub fn client_key(identity: &[u8]) -> u64 {
    mix(identity
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)))
}

/// Returns the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
/// 2014): a bijection whose every output bit depends on every input bit.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns a hash as a fraction, `0 < u <= 1`.
pub(crate) fn fraction(hash: u64) -> f64 {
    ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// Returns whether a client (its key, salted for the purpose) is among this percent of all clients. Who is within a
/// share is within every larger one.
pub fn is_within(percent: u8, salted_key: u64) -> bool {
    percent > 0 && fraction(mix(salted_key)) * 100.0 <= f64::from(percent)
}

/// Salt of the hash that decides who is moved off a region by its weight. It differs from the
/// rendezvous hash's so that "10 percent of those who would choose it" is exactly that.
pub(crate) const WEIGHT_SALT: u64 = 0x7765_6967_6874_2121;

/// Salt of the hash that decides who is spilled from an overloaded region, and who not.
pub(crate) const SPILL_SALT: u64 = 0x7370_696c_6c21_2121;

/// Salt of the hash that decides who is refused first where it becomes full.
pub(crate) const SHED_SALT: u64 = 0x7368_6564_6465_6421;

/// Salt of the hash that decides when a client's turn to be refused first passes to others.
pub(crate) const TURN_SALT: u64 = 0x7368_6564_7475_726e;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable_and_spread() {
        // FNV-1a of "a" is published as af63dc4c8601ec8c; the mix of it is ours to keep for ever.
        assert_eq!(client_key(b"a"), mix(0xaf63_dc4c_8601_ec8c));
        let low = (0..10_000_u32).filter(|n| fraction(client_key(&n.to_be_bytes())) < 0.1).count();
        assert!((900..1100).contains(&low), "{low}");
    }

    /// The mix is the published generator's, and nothing of it may change: it decides who is where.
    #[test]
    fn the_mix_is_splitmix64s() {
        let published = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f_u64];
        for (step, expected) in (1..).zip(published) {
            assert_eq!(mix(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(step)), expected, "of seed 0, step {step}");
        }
        assert_eq!(fraction(0), 1.0 / 9_007_199_254_740_992.0, "more than nothing");
        assert_eq!((fraction(u64::MAX), fraction(1 << 63)), (1.0, 0.5 + fraction(0)));
    }

    #[test]
    fn shares_only_grow() {
        let keys: Vec<u64> = (0..10_000_u32).map(|n| client_key(&n.to_be_bytes())).collect();
        let within = |percent| keys.iter().filter(|key| is_within(percent, **key ^ 7)).count();
        assert_eq!((within(0), within(100)), (0, 10_000));
        assert!((400..600).contains(&within(5)), "{}", within(5));
        assert!(keys.iter().all(|key| !is_within(5, *key) || is_within(25, *key)));
    }
}
