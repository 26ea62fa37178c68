use super::*;

#[test]
fn a_head_ends_with_its_first_empty_line() {
    for (bytes, length) in [
        ("GET / HTTP/1.1\r\nA: b\r\n\r\nbody\r\n\r\n", Some(24)),
        ("GET / HTTP/1.1\r\n\nA: b\r\n\r\n", Some(17)),
        ("GET / HTTP/1.1\n\r\n\n", Some(17)),
        ("GET / HTTP/1.1\r\nA: b\r\n\r", None),
        ("GET / HTTP/1.1\r\nA: b\r\n", None),
        ("GET / HTTP/1.1\r\nA: b", None),
        ("", None),
    ] {
        assert_eq!(head_end(bytes.as_bytes(), 0), length, "{bytes:?}");
        for searched in 0..length.unwrap_or(0).saturating_sub(3) {
            assert_eq!(head_end(bytes.as_bytes(), searched), length, "{bytes:?} from {searched}");
        }
    }
}

#[test]
fn hosts_are_normalised_or_refused() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(host(&longest).ok().as_deref(), Some(longest.as_str()));
    assert!(host(&format!("{longest}b")).is_err());
    for (authority, expected) in [
        ("api.example.com", Some("api.example.com")),
        ("API.Example.COM:8443", Some("api.example.com")),
        ("api.example.com.", Some("api.example.com")),
        ("a_b-9.example", Some("a_b-9.example")),
        (".example.com", None),
        ("api.example.com..", None),
        ("127.0.0.1:80", Some("127.0.0.1")),
        ("[::1]:80", Some("::1")),
        ("[::1]", Some("::1")),
        ("[2001:DB8:0:0::1]:80", Some("2001:db8::1")),
        ("[0:0:0:0:0:0:0:1]", Some("::1")),
        ("user@api.example.com", None),
        ("api.example.com/x", None),
        ("api.example.com:80:80", None),
        ("api.example.com:http", None),
        ("api..example.com", None),
        ("", None),
        (".", None),
        ("[::g]", None),
        ("a b", None),
    ] {
        assert_eq!(host(authority).ok().as_deref(), expected, "{authority}");
    }
}

#[test]
fn trailers_say_nothing_that_a_head_must() {
    let rules = TrailerRules::new(&[Some("x-consent"), None]);
    let received = [
        ("grpc-status", "0"),
        ("x-checksum", "1"),
        ("x-client-country", "US"),
        ("x_client_country", "US"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-meridian-chosen", "us"),
        ("X_Meridian_Consent", "x-consent"),
        ("x-consent", "granted"),
        ("X_Consent", "granted"),
        ("authorization", "Bearer a"),
        ("cookie", "a=b"),
        ("content-length", "5"),
        ("if-match", "a"),
        ("content_length", "5"),
        ("if_match", "a"),
        ("HTTP_Authorization", "Bearer a"),
        ("http_x_meridian_chosen", "us"),
        ("http-x-consent", "granted"),
    ];
    let trailers = received.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    let passed = rules.passed_on(trailers.into_iter().collect()).unwrap();
    let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["grpc-status", "x-checksum"]);
    assert!(rules.passed_on(HeaderMap::new()).is_none());
}
