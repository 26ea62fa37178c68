//! A cookie opens for whom it was sealed, until its end, and nothing else opens.
//!
//! The input is the lines secret, route, region, the end in hexadecimal, and a cookie to try.

use policy::affinity::{AffinityKey, Pin};

pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(5, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (secret, route, region, end, tried) = (line(), line(), line(), line(), line());
    // Names of routes and regions have none.
    let (route, region) = (route.replace('\0', ""), region.replace('\0', ""));
    let end = u64::from_str_radix(end, 16).unwrap_or(0x7000_0000);
    let key = AffinityKey::new(secret.as_bytes());

    // Nothing opens but what sealing gives.
    for now in [0, end, u64::MAX - 1] {
        if let Some(pin) = key.open(&route, tried, now) {
            assert!(now < pin.expires);
            assert_eq!(key.seal(&route, pin.region, pin.expires), tried);
        }
    }

    let sealed = key.seal(&route, &region, end);
    let pin = Pin { region: &region, expires: end };
    assert_eq!(key.open(&route, &sealed, 0), (end > 0).then_some(pin));
    assert_eq!(key.open(&route, &sealed, end.saturating_sub(1)), (end > 0).then_some(pin));
    assert_eq!(key.open(&route, &sealed, end), None, "it is over");
    assert_eq!(key.open(&format!("{route}x"), &sealed, 0), None, "of another route");
    assert_eq!(AffinityKey::new(format!("{secret}x").as_bytes()).open(&route, &sealed, 0), None, "of another key");

    // What was tried chooses what to change.
    let (place, byte) =
        tried.bytes().fold((0_usize, 1), |(place, _), byte| ((place * 31 + usize::from(byte)) % 65_536, byte));
    let place = place % sealed.len();
    for change in [byte, 0x20, 1, 0x80] {
        let mut forged = sealed.clone().into_bytes();
        forged[place] ^= change;
        if let Ok(forged) = String::from_utf8(forged)
            && forged != sealed
        {
            assert_eq!(key.open(&route, &forged, 0), None, "{forged} is forged");
        }
    }
    if let Some(cut) = sealed.get(..place) {
        assert_eq!(key.open(&route, cut, 0), None);
    }
    if !tried.is_empty() {
        assert_eq!(key.open(&route, &format!("{sealed}{tried}"), 0), None);
        assert_eq!(key.open(&route, &format!("{tried}{sealed}"), 0), None);
    }
}
