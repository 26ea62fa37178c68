use proptest::prelude::*;

use super::*;

fn proxies() -> TrustedProxies {
    ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|network| network.parse().unwrap()).to_vec().into()
}

fn client(peer: &str, lines: &[&str]) -> (String, Forwarded) {
    let client = client_ip(peer.parse().unwrap(), lines.iter().map(|line| line.as_bytes()), &proxies());
    (client.address.to_string(), client.forwarded)
}

#[test]
fn chains() {
    use Forwarded::{Direct, Header, Malformed};
    let facts: &[(&str, &[&str], &str, Forwarded)] = &[
        // an untrusted peer is the client, whatever it says
        ("198.51.100.1", &[], "198.51.100.1", Direct),
        ("198.51.100.1", &["1.1.1.1"], "198.51.100.1", Direct),
        ("198.51.100.1", &["unknown"], "198.51.100.1", Direct),
        ("::ffff:198.51.100.1", &["1.1.1.1"], "198.51.100.1", Direct),
        // a trusted peer that names no client
        ("10.0.0.1", &[], "10.0.0.1", Direct),
        ("10.0.0.1", &[""], "10.0.0.1", Direct),
        ("10.0.0.1", &[" , ,\t", ""], "10.0.0.1", Direct),
        // the first untrusted hop from the right
        ("10.0.0.1", &["1.1.1.1"], "1.1.1.1", Header),
        ("::ffff:10.0.0.1", &["1.1.1.1"], "1.1.1.1", Header),
        ("2001:db8:ffff::1", &["1.1.1.1"], "1.1.1.1", Header),
        ("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1", Header),
        ("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2, 10.0.0.3"], "1.1.1.1", Header),
        ("10.0.0.1", &["unknown, 1.1.1.1, 10.0.0.2"], "1.1.1.1", Header),
        ("10.0.0.1", &["10.9.9.9, 1.1.1.1"], "1.1.1.1", Header),
        ("10.0.0.1", &["1.1.1.1, 2001:db8:ffff::2"], "1.1.1.1", Header),
        ("10.0.0.1", &["1.1.1.1, ::ffff:10.0.0.2"], "1.1.1.1", Header),
        ("10.0.0.1", &["192.168.1.1"], "192.168.1.1", Header),
        // lines are one list
        ("10.0.0.1", &["6.6.6.6", "1.1.1.1", "10.0.0.2"], "1.1.1.1", Header),
        ("10.0.0.1", &["1.1.1.1, 10.0.0.3", "10.0.0.2"], "1.1.1.1", Header),
        // all trusted: the left-most
        ("10.0.0.1", &["10.0.0.2"], "10.0.0.2", Header),
        ("10.0.0.1", &["10.0.0.3", "10.0.0.2"], "10.0.0.3", Header),
        ("10.0.0.1", &[" ,10.0.0.3,,10.0.0.2,"], "10.0.0.3", Header),
        // forms
        ("10.0.0.1", &["1.2.3.4:567"], "1.2.3.4", Header),
        ("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1", Header),
        ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1", Header),
        ("10.0.0.1", &["2001:db8::1"], "2001:db8::1", Header),
        ("10.0.0.1", &["2001:DB8::1"], "2001:db8::1", Header),
        ("10.0.0.1", &["[::ffff:1.2.3.4]:80"], "1.2.3.4", Header),
        ("10.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4", Header),
        ("10.0.0.1", &["\t 1.2.3.4 \t,  10.0.0.2:80\t"], "1.2.3.4", Header),
        // the walk stops where it cannot read, at the last good hop
        ("10.0.0.1", &["unknown"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["1.1.1.1, _hidden, 10.0.0.2"], "10.0.0.2", Malformed),
        ("10.0.0.1", &["1.1.1.1", "nonsense", "10.0.0.3, 10.0.0.2"], "10.0.0.3", Malformed),
        ("10.0.0.1", &["1.1.1"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["01.1.1.1"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["1.1.1.1.1"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["256.1.1.1"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["1.1.1.1:"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["1.1.1.1:+80"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["1.1.1.1:65536"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["1.1.1.1 2.2.2.2"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["[1.1.1.1]"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["[2001:db8::1"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["[2001:db8::1]x"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["fe80::1%eth0"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["\"1.1.1.1\""], "10.0.0.1", Malformed),
        ("10.0.0.1", &["for=1.1.1.1"], "10.0.0.1", Malformed),
        ("10.0.0.1", &["1.1.1.1;10.0.0.2"], "10.0.0.1", Malformed),
    ];
    for (peer, lines, address, forwarded) in facts {
        assert_eq!(client(peer, lines), (address.to_string(), *forwarded), "{peer} {lines:?}");
    }
}

#[test]
fn peer_trust_is_told_apart() {
    let none = std::iter::empty::<&[u8]>;
    assert!(client_ip("10.0.0.1".parse().unwrap(), none(), &proxies()).peer_trusted);
    assert!(!client_ip("11.0.0.1".parse().unwrap(), none(), &proxies()).peer_trusted);
}

#[test]
fn bytes_that_are_no_text_are_malformed() {
    let line: &[u8] = b"1.1.1.1, \xff\xfe";
    let client = client_ip("10.0.0.1".parse().unwrap(), [line].into_iter(), &proxies());
    assert_eq!(client.forwarded, Forwarded::Malformed);
}

#[test]
fn the_number_of_hops_is_bounded() {
    let chain = |trusted: usize| format!("1.1.1.1{}", ", 10.0.0.2".repeat(trusted));
    assert_eq!(client("10.0.0.1", &[&chain(MAX_HOPS - 1)]), ("1.1.1.1".into(), Forwarded::Header));
    assert_eq!(client("10.0.0.1", &[&chain(MAX_HOPS)]), ("10.0.0.2".into(), Forwarded::Malformed));
    // exactly as many as are looked at, and none left over
    let full = vec!["10.0.0.2"; MAX_HOPS];
    assert_eq!(client("10.0.0.1", &full), ("10.0.0.2".into(), Forwarded::Header));
    // empty elements count, or a header full of commas would be unbounded work
    let commas = ",".repeat(60_000);
    assert_eq!(client("10.0.0.1", &[&commas]), ("10.0.0.1".into(), Forwarded::Malformed));
}

/// One element of a generated header, and what it means.
#[derive(Debug, Clone)]
enum Element {
    Trusted(u16),
    Untrusted(u16),
    Garbage(String),
    Empty,
}

impl Element {
    fn text(&self) -> String {
        match self {
            Element::Trusted(host) => format!("10.0.{}.{}", host >> 8, host & 255),
            Element::Untrusted(host) => format!("[2001:db8::{host:x}]:80"),
            Element::Garbage(text) => format!("_{text}"),
            Element::Empty => "  ".into(),
        }
    }
}

fn element() -> impl Strategy<Value = Element> {
    prop_oneof![
        4 => any::<u16>().prop_map(Element::Trusted),
        2 => any::<u16>().prop_map(Element::Untrusted),
        1 => "[a-z0-9.:]{0,12}".prop_map(Element::Garbage),
        1 => Just(Element::Empty),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        peer in any::<IpAddr>(),
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..5),
        everyone in any::<bool>(),
    ) {
        let all: TrustedProxies = ["0.0.0.0/0", "::/0"].map(|network| network.parse().unwrap()).to_vec().into();
        let trusted = if everyone { all } else { proxies() };
        let client = client_ip(peer, lines.iter().map(Vec::as_slice), &trusted);
        prop_assert!(client.peer_trusted || client.address == peer.to_canonical());
        prop_assert_eq!(client.address, client.address.to_canonical());
    }

    /// Checks that hops to the left of an untrusted or unreadable one have no effect on the address.
    #[test]
    fn nothing_left_of_the_first_untrusted_hop_matters(
        lines in prop::collection::vec(prop::collection::vec(element(), 1..6), 0..6),
        forged in "[0-9a-f.:, ]{0,30}",
    ) {
        let peer: IpAddr = "10.255.255.255".parse().unwrap();
        let elements: Vec<&Element> = lines.iter().flatten().collect();
        let decisive = elements.iter().rposition(|e| matches!(e, Element::Untrusted(_) | Element::Garbage(_)));
        let believed = elements.get(decisive.map_or(0, |index| index + 1)..).unwrap_or_default();
        let nearest = believed.iter().find(|e| matches!(e, Element::Trusted(_)));
        let last_good = nearest.map_or(peer, |e| hop(e.text().as_bytes()).unwrap());
        let (address, forwarded) = match decisive.map(|index| elements[index]) {
            Some(Element::Garbage(_)) => (last_good, Forwarded::Malformed),
            Some(untrusted) => (hop(untrusted.text().as_bytes()).unwrap(), Forwarded::Header),
            None if nearest.is_some() => (last_good, Forwarded::Header),
            None => (peer, Forwarded::Direct),
        };

        let text = |line: &Vec<Element>| line.iter().map(Element::text).collect::<Vec<_>>().join(",");
        let mut lines: Vec<String> = lines.iter().map(text).collect();
        let find = |lines: &[String]| client_ip(peer, lines.iter().map(|line| line.as_bytes()), &proxies());
        let expected = ClientIp { address, peer_trusted: true, forwarded };
        prop_assert_eq!(find(&lines), expected);
        if decisive.is_some() {
            lines.insert(0, forged);
            prop_assert_eq!(find(&lines), expected);
        }
    }
}
