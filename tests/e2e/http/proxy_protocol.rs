//! A load balancer that says in a PROXY header by whom it was called, and everybody else who would like to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meridian_tests::{Authority, Client, Node, RawConnection, Setup, World, geo, get};

use super::EVERYTHING;

#[tokio::test]
async fn a_trusted_load_balancer_names_the_client() {
    let (world, _, node) = start().await;
    for (source, country) in [(geo::address("DE", 3), "DE"), (geo::address_v6("BR", 9), "BR")] {
        for header in [version_1(source), version_2(source)] {
            let mut connection = RawConnection::open(node.http()).await;
            connection.write(&header).await;
            for _ in 0..2 {
                connection.write(REQUEST).await;
                let (head, _) = connection.read_answer().await;
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                let received = world.received("here").pop().expect("a request");
                assert_eq!(received.header("x-client-country"), Some(country));
                // The load balancer speaks for the connection; what the client says in it is the client's.
                assert_eq!(received.header("x-forwarded-for"), Some(source.to_string().as_str()));
            }
        }
    }
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let (world, authority, node) = start().await;
    let mut connection = RawConnection::open(node.https()).await;
    connection.write(version_2(geo::address("FR", 1))).await;
    let mut connection = connection.secure(&authority, "api.example.com", b"http/1.1").await;
    connection.write(REQUEST).await;
    assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"));
    assert_eq!(world.received("here").pop().expect("a request").header("x-client-country"), Some("FR"));
}

#[tokio::test]
async fn a_header_may_come_in_pieces_or_not_at_all() {
    let (world, _, node) = start().await;
    for header in [version_1(geo::address("DE", 3)), version_2(geo::address("DE", 3))] {
        let mut connection = RawConnection::open(node.http()).await;
        for piece in header.chunks(7) {
            connection.write(piece).await;
        }
        connection.write(REQUEST).await;
        assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"));
        assert_eq!(world.received("here").pop().expect("a request").header("x-client-country"), Some("DE"));
    }
    // Health checks of the load balancer itself, and a peer that sends none.
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b""] {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(header).await;
        connection.write(REQUEST).await;
        assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"), "{header:?}");
    }
    Client::http2(node.http()).send(&get("/").from("BR")).await.assert_served_by("here");
    assert_eq!(world.received("here").pop().expect("a request").header("x-client-country"), Some("BR"));
}

#[tokio::test]
async fn a_client_that_the_header_does_not_name_is_unknown_and_its_word_is_its_own() {
    let law = "[jurisdictions.de]\ncountries = [\"DE\"]\n[data_classes.bound]\n\
        [residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
        [[residency]]\njurisdiction = \"de\"\ndata_classes = [\"bound\"]\nallow = { countries = [\"DE\"] }\n\
        transfer = \"with_consent\"\n\
        [[routes]]\nname = \"bound\"\ndata_class = \"bound\"\nconsent_header = \"x-data-consent\"\n";
    let world = World::of_regions(&[("us", "US"), ("de", "DE")], law).await;
    let node = Setup::new("us", world.table()).plain().with_proxy_header().start().await;
    let american = geo::address("US", 1);
    let claims = format!(
        "GET / HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: {american}\r\nx-data-consent: granted\r\n\r\n"
    );
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    let unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0".to_vec();
    let mut datagram = version_2(american);
    datagram[13] = 0x12;
    let unix = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"[..], &[b'/'; 216]].concat();
    for (header, region) in [
        (version_1(american), "us"),
        (version_2(american), "us"),
        // The proxy's own: its word counts.
        (local, "us"),
        (Vec::new(), "us"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "de"),
        (format!("PROXY UNKNOWN {american} 127.0.0.1 56324 443\r\n").into_bytes(), "de"),
        (unspecified, "de"),
        (datagram, "de"),
        (unix, "de"),
    ] {
        let before = world.received_outside(&["de"]).len();
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(&header).await;
        for _ in 0..2 {
            connection.write(&claims).await;
            let (head, _) = connection.read_answer().await;
            assert!(head.starts_with("HTTP/1.1 200"), "{header:?}: {head}");
        }
        let abroad = world.received_outside(&["de"]).len() - before;
        assert_eq!(abroad, if region == "us" { 2 } else { 0 }, "{header:?}");
    }
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let (world, _, node) = start().await;
    for header in [version_1(geo::address("DE", 3)), version_2(geo::address("DE", 3))] {
        let mut connection = RawConnection::open_from(node.http(), geo::loopback("US")).await;
        // It may be closed before all is written.
        let _ = connection.try_write(&header).await;
        let _ = connection.try_write(REQUEST).await;
        let (answer, _) = connection.read_to_end().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    for malformed in
        ["PROXY TCP4 999.0.2.1 127.0.0.1 1 2\r\n", "PROXY TCP9 1 2\r\n", &format!("PROXY {}\r\n", "x".repeat(200))]
    {
        let mut connection = RawConnection::open(node.http()).await;
        let _ = connection.try_write(malformed).await;
        let _ = connection.try_write(REQUEST).await;
        let (answer, _) = connection.read_to_end().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{malformed}: {answer}");
    }
    world.assert_nothing_outside(&[]);
}

/// Fields after the addresses may be long, and say whether the header is what was sent.
#[tokio::test]
async fn a_header_with_fields_is_taken_whole_or_refused() {
    let (world, _, node) = start().await;
    let german = version_2(geo::address("DE", 3));
    let with = |fields: &[u8]| {
        let mut header = german.clone();
        header.extend(fields);
        let length = u16::try_from(header.len() - 16).expect("a length").to_be_bytes();
        header[14..16].copy_from_slice(&length);
        header
    };
    let padding =
        |length: usize| [&[4][..], &u16::try_from(length).expect("a length").to_be_bytes(), &vec![7; length]].concat();
    // RFC 3720's checksum of this very header, with zeros in its own place.
    let checked = |right: bool| {
        let mut header = with(&[3, 0, 4, 0, 0, 0, 0]);
        let checksum = crc32c(&header) ^ u32::from(!right);
        let at = header.len() - 4;
        header[at..].copy_from_slice(&checksum.to_be_bytes());
        header
    };
    for header in [with(&padding(10)), with(&padding(5_000)), with(&padding(60_000)), checked(true)] {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(&header).await;
        connection.write(REQUEST).await;
        assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"), "{} bytes", header.len());
        assert_eq!(world.received("here").pop().expect("a request").header("x-client-country"), Some("DE"));
    }
    let served = world.received("here").len();
    for (cause, header) in [
        ("overrun", with(&[4, 0, 200, 1])),
        ("checksum", checked(false)),
        ("malformed", {
            let mut header = german.clone();
            header[12] = 0x31;
            header
        }),
    ] {
        let mut connection = RawConnection::open(node.http()).await;
        let _ = connection.try_write(&header).await;
        let _ = connection.try_write(REQUEST).await;
        assert_eq!(connection.read_to_end().await.0, b"", "{cause}");
        let refused = node.metrics().await.sum("meridian_proxy_header_refusals_total", &[("cause", cause)]);
        assert_eq!(refused, Some(1.0), "{cause}");
    }
    assert_eq!(world.received("here").len(), served);
}

/// Bit by bit, as RFC 3720, 12.1 describes it.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[tokio::test]
async fn a_listener_that_does_not_take_it_refuses_it() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    let mut request = version_1(geo::address("DE", 3));
    request.extend(REQUEST.bytes());
    let answer = RawConnection::open(node.http()).await.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    world.assert_nothing_outside(&[]);
}

async fn start() -> (World, Authority, Node) {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let setup = Setup::new("here", world.table()).plain().with_proxy_header().tls(&[&certificate]).with_proxy_header();
    let limits = "header_timeout = \"1s\"\nkeep_alive = \"1s\"";
    (world, authority, setup.section("limits", limits).start().await)
}

fn version_1(source: IpAddr) -> Vec<u8> {
    match source {
        IpAddr::V4(source) => format!("PROXY TCP4 {source} 127.0.0.1 56324 443\r\n"),
        IpAddr::V6(source) => format!("PROXY TCP6 {source} ::1 56324 443\r\n"),
    }
    .into_bytes()
}

fn version_2(source: IpAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match source {
        IpAddr::V4(source) => {
            header.extend([0x11, 0, 12]);
            header.extend(source.octets());
            header.extend(Ipv4Addr::LOCALHOST.octets());
        }
        IpAddr::V6(source) => {
            header.extend([0x21, 0, 36]);
            header.extend(source.octets());
            header.extend(Ipv6Addr::LOCALHOST.octets());
        }
    }
    header.extend([0xdc, 0x04, 0x01, 0xbb]);
    header
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: 192.0.2.1\r\n\r\n";
