use super::*;

fn client(address: &str) -> ProxyHeader {
    ProxyHeader::Client(address.parse().unwrap())
}

/// What the beginning of a connection is judged to be; `None` while more must be seen.
fn judged(bytes: &[u8]) -> Option<Result<Beginning, &'static str>> {
    judge(bytes).map(|judged| judged.map_err(|fault| fault.cause()))
}

/// Returns a header of version 2: command, family and protocol, and what follows.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, family], &length, rest].concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// The same header with its checksum, which is in the last four bytes.
fn summed(mut header: Vec<u8>) -> Vec<u8> {
    let at = header.len() - 4;
    let checksum = crc32c([&header[..]]).to_be_bytes();
    header[at..].copy_from_slice(&checksum);
    header
}

/// Takes a header that comes in two pieces, and tells what of the stream is left.
async fn taken(first: &[u8], second: &[u8]) -> (Result<ProxyHeader, &'static str>, Vec<u8>) {
    let mut stream = first.chain(second);
    let caller = super::version_2(&mut stream).await.map_err(|fault| fault.cause());
    let mut left = Vec::new();
    stream.read_to_end(&mut left).await.unwrap();
    (caller, left)
}

const IPV4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];

#[test]
fn version_1_is_whole_or_awaited() {
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
    let followed = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
    let expected = Beginning::Version1(header.len(), client("192.0.2.7:4711"));
    assert_eq!(judged(&followed), Some(Ok(expected)));
    for cut in 1..header.len() {
        assert_eq!(judged(&header[..cut]), None, "{cut} bytes");
    }
    for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 4711 443\r\n"] {
        assert_eq!(judged(unknown), Some(Ok(Beginning::Version1(unknown.len(), ProxyHeader::Unknown))));
    }
}

#[test]
fn whatever_follows_unknown_is_ignored() {
    for rest in ["", " ", "     ", " a b c d e f g h", " \u{fc}\0", &format!(" {}", "f".repeat(91))] {
        let header = format!("PROXY UNKNOWN{rest}\r\n").into_bytes();
        assert_eq!(judged(&header), Some(Ok(Beginning::Version1(header.len(), ProxyHeader::Unknown))), "{rest:?}");
    }
    let not_text = b"PROXY UNKNOWN \xff\xfe\r\n";
    assert_eq!(judged(not_text), Some(Ok(Beginning::Version1(not_text.len(), ProxyHeader::Unknown))));
}

#[test]
fn version_1_is_as_it_is_written_or_refused() {
    let named = |text: &str, address: &str| {
        assert_eq!(judged(text.as_bytes()), Some(Ok(Beginning::Version1(text.len(), client(address)))), "{text}");
    };
    named("PROXY TCP6 2001:DB8::7 ::1 65535 0\r\n", "[2001:db8::7]:65535");
    named("PROXY TCP4 192.0.2.7 198.51.100.1 0 443\r\n", "192.0.2.7:0");
    for malformed in [
        "PROXY TCP4 192.0.2.999 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.x 4711 443\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 ::7 ::1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +4711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 +443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 \r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7\r198.51.100.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\nGET / HTTP/1.1\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXYTCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXY UNKNOWN\r\r\n",
        "PROXY \r\n",
        "PROXY\r\n",
        &"PROXY UNKNOWN ".repeat(8)[..LONGEST_VERSION_1],
    ] {
        assert_eq!(judged(malformed.as_bytes()), Some(Err("malformed")), "{malformed:?}");
    }
}

#[test]
fn what_is_no_header_is_left_alone() {
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"", b"PUT /", b"PROXIMITY", b"\r\nGET"] {
        assert_eq!(judged(other), Some(Ok(Beginning::Nothing)), "{other:?}");
    }
    let signature = &version_2(1, 0x11, &IPV4)[..12];
    assert_eq!(judged(signature), Some(Ok(Beginning::Version2)));
    for cut in 1..signature.len() {
        assert_eq!(judged(&signature[..cut]), None, "{cut} bytes");
    }
}

#[tokio::test]
async fn version_2_is_taken_to_its_last_byte_wherever_it_is_cut() {
    let ipv6: Vec<u8> = [[0x20; 16], [0x30; 16]].concat().into_iter().chain([0x12, 0x67, 0x01, 0xbb]).collect();
    let unix = [b'/'; 216];
    let checksum = field(CRC32C, &[0; 4]);
    let fields = [&IPV4[..], &field(0x02, b"api.example.com"), &field(0x04, b""), &checksum].concat();
    let named = client("192.0.2.7:4711");
    for (what, header, expected) in [
        ("IPv4", version_2(1, 0x11, &IPV4), Ok(named)),
        ("LOCAL", version_2(0, 0, &[]), Ok(ProxyHeader::Proxy)),
        ("LOCAL with addresses", version_2(0, 0x11, &IPV4), Ok(ProxyHeader::Proxy)),
        ("LOCAL with a family and no addresses", version_2(0, 0x11, &[]), Ok(ProxyHeader::Proxy)),
        ("LOCAL with a family and too few addresses", version_2(0, 0x21, &IPV4), Ok(ProxyHeader::Proxy)),
        ("UNSPEC", version_2(1, 0, &[]), Ok(ProxyHeader::Unknown)),
        ("UNSPEC with bytes", version_2(1, 0, &IPV4), Ok(ProxyHeader::Unknown)),
        ("IPv4 without a protocol", version_2(1, 0x10, &IPV4), Ok(ProxyHeader::Unknown)),
        ("UDP over IPv4", version_2(1, 0x12, &IPV4), Ok(ProxyHeader::Unknown)),
        ("UDP over IPv6", version_2(1, 0x22, &ipv6), Ok(ProxyHeader::Unknown)),
        ("a Unix stream", version_2(1, 0x31, &unix), Ok(ProxyHeader::Unknown)),
        ("a Unix datagram", version_2(1, 0x32, &unix), Ok(ProxyHeader::Unknown)),
        ("fields and a checksum", summed(version_2(1, 0x11, &fields)), Ok(named)),
        ("LOCAL with a checksum", summed(version_2(0, 0, &checksum)), Ok(ProxyHeader::Proxy)),
        ("a wrong checksum", version_2(1, 0x11, &fields), Err("checksum")),
        ("LOCAL with a wrong checksum", version_2(0, 0, &checksum), Err("checksum")),
        ("LOCAL of an address with a wrong checksum", version_2(0, 0x11, &fields), Err("checksum")),
        ("two checksums", version_2(1, 0x11, &[&IPV4[..], &checksum, &checksum].concat()), Err("malformed")),
        ("a short checksum", version_2(1, 0x11, &[&IPV4[..], &field(CRC32C, &[0; 3])].concat()), Err("malformed")),
        ("a field's first byte", version_2(1, 0x11, &[&IPV4[..], &[4]].concat()), Err("overrun")),
        ("a field past the end", version_2(1, 0x11, &[&IPV4[..], &[4, 0, 2, 1]].concat()), Err("overrun")),
        ("addresses past the end", version_2(1, 0x11, &IPV4[..11]), Err("malformed")),
    ] {
        let stream = [&header[..], b"GET /"].concat();
        for cut in 0..=stream.len() {
            let (first, second) = stream.split_at(cut);
            let (found, left) = taken(first, second).await;
            assert_eq!(found, expected, "{what}, cut at {cut}");
            if expected.is_ok() {
                assert_eq!(left, b"GET /", "{what}, cut at {cut}");
            }
        }
    }
}

#[tokio::test]
async fn a_header_may_be_as_long_as_its_length_can_say() {
    for most in [5_000, 60_000, usize::from(u16::MAX)] {
        let padding = field(0x04, &vec![7; most - IPV4.len() - 7 - 3]);
        let header = summed(version_2(1, 0x11, &[&IPV4[..], &padding, &field(CRC32C, &[0; 4])].concat()));
        assert_eq!(header.len(), FIXED + most);
        let (found, left) = taken(&header, b"x").await;
        assert_eq!((found, &left[..]), (Ok(client("192.0.2.7:4711")), &b"x"[..]));
        let mut changed = header;
        changed[FIXED] ^= 1;
        assert_eq!(taken(&changed, b"").await.0, Err("checksum"));
    }
}

#[tokio::test]
async fn what_cannot_be_a_header_is_refused_by_its_fixed_part() {
    let mut version_3 = version_2(1, 0x11, &IPV4);
    version_3[12] = 0x31;
    for (what, header) in [
        ("version 3", version_3),
        ("a third command", version_2(2, 0x11, &IPV4)),
        ("a fifth family", version_2(1, 0x41, &IPV4)),
        ("a fourth protocol", version_2(1, 0x13, &IPV4)),
    ] {
        assert_eq!(taken(&header[..FIXED], b"").await.0, Err("malformed"), "{what}");
    }
    let header = version_2(1, 0x11, &IPV4);
    assert_eq!(taken(&header[..20], b"").await.0, Err("cut_off"));
    assert_eq!(taken(&header[..7], b"").await.0, Err("cut_off"));
}
