//! Tokens that were verified lately: a signature is looked into once, however many requests it comes with.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;

/// What the same keys have verified, by digest. It lives as long as the keys, and any thread asks. Of a fixed size: where
/// a token may be there are [`WAYS`] places, and a newcomer takes that of the one that was not there for longest. Only
/// what the keys have signed gets in, so that nobody else pushes anything out.
pub(super) struct VerifiedTokens(Box<[Mutex<Places>]>);

/// The last one seen first.
type Places = [Option<VerifiedToken>; WAYS];

#[derive(Clone, Copy)]
struct VerifiedToken {
    digest: TokenDigest,
    grants: bool,
    /// Unix seconds: its `exp`.
    until: u64,
}

/// The digest of a token, and of the claim that it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenDigest([u8; digest::SHA256_OUTPUT_LEN]);

impl TokenDigest {
    /// Returns that of a token in which this claim is looked for.
    pub(super) fn of(token: &str, claim: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(claim.len() as u64).to_be_bytes());
        context.update(claim.as_bytes());
        context.update(token.as_bytes());
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        // Both are of SHA-256's length.
        bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(byte, of)| *byte = *of);
        Self(bytes)
    }

    fn set(&self, sets: usize) -> usize {
        let TokenDigest([a, b, c, d, ..]) = *self;
        u32::from_be_bytes([a, b, c, d]) as usize % sets.max(1)
    }
}

impl VerifiedTokens {
    /// Makes room for those of keys; none where there are no keys.
    pub(super) fn of_keys(keys: usize) -> Self {
        let sets = if keys == 0 { 0 } else { SETS };
        Self((0..sets).map(|_| Mutex::new([None; WAYS])).collect())
    }

    /// Returns what a token was found to grant, unless its time is over by `now`.
    pub(super) fn find(&self, digest: &TokenDigest, now: u64) -> Option<bool> {
        let mut places = self.places(digest)?.lock().unwrap_or_else(PoisonError::into_inner);
        let found = places.iter().position(|place| place.is_some_and(|token| token.digest == *digest))?;
        places.get_mut(..=found)?.rotate_right(1);
        let [first, ..] = &mut *places;
        if first.is_some_and(|token| token.until <= now) {
            *first = None;
        }
        first.map(|token| token.grants)
    }

    /// Remembers what a token grants, until then, unless that is over by `now`.
    pub(super) fn note(&self, digest: TokenDigest, grants: bool, until: u64, now: u64) {
        let Some(places) = self.places(&digest).filter(|_| until > now) else { return };
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        let free = places.iter().position(Option::is_none).unwrap_or(WAYS - 1);
        places.get_mut(..=free).unwrap_or_default().rotate_right(1);
        let [first, ..] = &mut *places;
        *first = Some(VerifiedToken { digest, grants, until });
    }

    fn places(&self, digest: &TokenDigest) -> Option<&Mutex<Places>> {
        self.0.get(digest.set(self.0.len()))
    }
}

/// Sets of places: for 4,096 tokens, in 200 KiB.
const SETS: usize = 1024;
/// Places in a set, as the cache of clients has them.
const WAYS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_remembered_until_its_end_and_by_its_claim() {
        let verified = VerifiedTokens::of_keys(1);
        let [one, other] = ["consent", "other"].map(|claim| TokenDigest::of("a.b.c", claim));
        verified.note(one, true, 100, 0);
        verified.note(other, false, 200, 0);
        assert_eq!((verified.find(&one, 99), verified.find(&other, 99)), (Some(true), Some(false)));
        assert_eq!((verified.find(&one, 100), verified.find(&other, 100)), (None, Some(false)));
        assert_eq!(verified.find(&one, 50), None, "it is forgotten for good");
        assert!(verified.find(&TokenDigest::of("a.b.d", "consent"), 0).is_none());
        // Where one ends and the other begins is part of it.
        assert!(TokenDigest::of("bc", "a") != TokenDigest::of("c", "ab"));
    }

    #[test]
    fn what_is_over_pushes_nothing_out() {
        let verified = VerifiedTokens(std::iter::once(Mutex::new([None; WAYS])).collect());
        let tokens = ["a", "b", "c", "d", "e"].map(|token| TokenDigest::of(token, "consent"));
        let [one, rest @ .., over] = &tokens;
        verified.note(*one, true, 100, 0);
        rest.iter().for_each(|digest| verified.note(*digest, true, 200, 0));
        verified.note(*over, true, 100, 100);
        assert_eq!(verified.find(one, 100), None, "it is over");
        verified.note(*one, true, 100, 100);
        verified.note(*over, true, 200, 100);
        assert!(rest.iter().all(|digest| verified.find(digest, 100) == Some(true)), "the free place was taken");
        assert_eq!(verified.find(over, 100), Some(true));
    }

    #[test]
    fn without_keys_nothing_is_remembered() {
        let verified = VerifiedTokens::of_keys(0);
        let digest = TokenDigest::of("a.b.c", "consent");
        verified.note(digest, true, 100, 0);
        assert_eq!(verified.find(&digest, 0), None);
    }

    #[test]
    fn the_size_is_fixed_and_what_is_used_stays() {
        let verified = VerifiedTokens::of_keys(1);
        let of = |number: usize| TokenDigest::of(&number.to_string(), "consent");
        verified.note(of(0), true, 100, 0);
        for number in 1..100_000 {
            verified.note(of(number), true, 100, 0);
            assert_eq!(verified.find(&of(0), 0), Some(true), "{number}");
        }
        let kept = (0..100_000).filter(|number| verified.find(&of(*number), 0).is_some()).count();
        assert!(kept <= SETS * WAYS && kept > SETS * WAYS * 99 / 100, "{kept}");
    }
}
