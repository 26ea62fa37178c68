//! What must be refused, and what need not be: one file for each shape, the shapes of MaxMind's corrupt samples among
//! them, all without a description, so that no file is refused for that.

use std::time::{Duration, Instant};

use geoip::DatabaseError;

use crate::raw::{Raw, map, pointer, text};

/// The longest that any of these small files may take, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_damaged(name: &str, raw: &Raw, expected: &str) {
    let started = Instant::now();
    match raw.open() {
        Err(error @ DatabaseError::Damaged { .. }) => {
            let words = error.to_string();
            assert!(words.contains(expected), "{name}: {words}");
            assert!(words.contains("raw.mmdb") && words.contains("download it again"), "{name}: {words}");
        }
        other => panic!("{name}: {:?}", other.map(|_| "opened")),
    }
    assert!(started.elapsed() < PATIENCE, "{name} took {:?}", started.elapsed());
}

/// A value within so many arrays, or maps.
fn nested(levels: usize, map: bool) -> Vec<u8> {
    let level: &[u8] = if map { &[0xe1, 0x41, b'a'] } else { &[0x01, 0x04] };
    [level.repeat(levels), text("x")].concat()
}

#[test]
fn trees_that_lead_astray() {
    let nodes = |nodes: Vec<[u32; 2]>| Raw { nodes, ..Raw::default() };
    for (name, raw, expected) in [
        ("a node that leads to itself", nodes(vec![[0, 17]]), "offset 0: the search tree leads back"),
        ("a circle", nodes(vec![[1, 19], [2, 19], [19, 0]]), "offset 12: the search tree leads back"),
        ("the first byte of the separator, left", nodes(vec![[2, 17]]), "beyond the data section, or before it"),
        ("the first byte of the separator, right", nodes(vec![[17, 2]]), "beyond the data section, or before it"),
        ("the last byte of the separator, left", nodes(vec![[16, 17]]), "beyond the data section, or before it"),
        ("past the data", nodes(vec![[17, 17 + 17]]), "beyond the data section, or before it"),
        ("far past the data", nodes(vec![[17, 0xff_ffff]]), "beyond the data section, or before it"),
        (
            "more nodes than an address has bits",
            nodes((0..40).map(|node| [node + 1, 56]).collect()),
            "goes on after an address's last bit",
        ),
        ("a tree that ends elsewhere", Raw { separator: [1; 16], ..Raw::default() }, "offset 6: the 16 bytes behind"),
        ("more nodes than the file has", Raw::default().with("node_count", [0xc2, 0xff, 0xff]), "search tree"),
        ("4 billion nodes", Raw::default().with("node_count", [0xc4, 0xff, 0xff, 0xff, 0xff]), "search tree"),
    ] {
        assert_damaged(name, &raw, expected);
    }
}

#[test]
fn records_that_cannot_be_read_to_their_end() {
    const RECORD: &str = "at offset 22: the record of 0.0.0.0 cannot be read: ";
    // The value is the data's last, so that nothing follows that could be taken for its rest.
    let field = |value: &[u8]| Raw::data(map(&[("country_code", text("DE")), ("x", value.to_vec())]));
    let own_place = u16::try_from(field(&[]).data.len()).unwrap();
    for (name, raw, expected) in [
        ("an array longer than the data", field(&[0x1f, 0x04, 0x0e, b'A', b'#']), RECORD),
        ("a map longer than the data", field(&[0xff, 0x0e, b'A', b'#', 0x41, b'k']), RECORD),
        ("a text longer than the data", field(&[0x5d, 0x04, b'x']), RECORD),
        ("bytes longer than the data", field(&[0x95]), "bytes of size 21"),
        ("a double of three bytes", field(&[0x63, 1, 2, 3]), RECORD),
        ("a bool of two", field(&[0x02, 0x07]), RECORD),
        ("an unknown type", field(&[0x00, 0x20]), RECORD),
        ("a cache container", field(&[0x00, 0x05]), RECORD),
        ("a pointer to itself", field(&pointer(own_place)), RECORD),
        ("a pointer out of the data", field(&pointer(2000)), RECORD),
        ("a pointer that is cut off", field(&[0x38, 1]), RECORD),
        ("a text that is no UTF-8", field(&[0x42, 0xff, 0xfe]), RECORD),
    ] {
        assert_damaged(name, &raw, expected);
    }
    for (name, data, expected) in [
        ("a map that contains itself", map(&[("country", pointer(0))]), "nested in more than 64 levels"),
        ("deep arrays", nested(65, false), "nested in more than 64 levels"),
        ("deep maps", nested(65, true), "nested in more than 64 levels"),
        ("very deep arrays", nested(1000, false), "nested in more than 64 levels"),
        ("very deep maps", nested(1000, true), "nested in more than 64 levels"),
        ("a key that is a number", vec![0xe1, 0xa1, 5, 0x41, b'x'], RECORD),
        ("a key that is no UTF-8", vec![0xe1, 0x42, 0xff, 0xfe, 0x41, b'x'], RECORD),
        ("a key longer than the data", vec![0xe1, 0x5d, 0xff, b'x'], RECORD),
        ("a record cut off", vec![0xe2, 0x47, b'c', b'o'], RECORD),
    ] {
        assert_damaged(name, &Raw::data(data), expected);
    }
}

#[test]
fn records_that_expand() {
    // Each level is an array of two pointers to the level below: 2^30 values from 120 bytes.
    let mut data = map(&[("country_code", text("DE"))]);
    let mut below = 0;
    for _ in 0..30 {
        let level = [vec![0x02, 0x04], pointer(below), pointer(below)].concat();
        below = u16::try_from(data.len()).unwrap();
        data.extend(level);
    }
    let raw = Raw { nodes: vec![[17, 17 + u32::from(below)]], ..Raw::data(data) };
    assert_damaged("doublings", &raw, "exceeded maximum number of data structure values");

    // Two records that repeat one long text: each is less than the reader's limit, both are more than the file.
    let long = [vec![0x5f, 0, 0, 0], vec![b'x'; 65_821]].concat();
    let second = u32::try_from(long.len()).unwrap();
    let record = [vec![0x14, 0x04], [0x20, 0].repeat(20)].concat();
    let raw = Raw { nodes: vec![[17 + second, 17 + second + 42]], ..Raw::data([long, record.repeat(2)].concat()) };
    assert_damaged("repetitions", &raw, "more than 32 times as long as the file");
}

#[test]
fn metadata_that_cannot_be() {
    let good = Raw::default();
    for (name, raw, expected) in [
        (
            "an epoch that is no time",
            good.clone().with("build_epoch", [&[0x08, 0x02][..], &[0xff; 8]].concat()),
            "build_epoch",
        ),
        ("an unknown format", good.clone().with("binary_format_major_version", [0xa1, 3]), "major_version"),
        ("an unknown version of IP", good.clone().with("ip_version", [0xa1, 5]), "ip_version"),
        ("an unknown size of records", good.clone().with("record_size", [0xa1, 20]), "record_size"),
        ("no node", good.clone().with("node_count", [0xc0]), "node_count"),
        ("a text for a number", good.clone().with("node_count", text("7")), "expected u32"),
    ] {
        assert_damaged(name, &raw, expected);
    }
    let bytes = good.bytes();
    let start = bytes.windows(14).position(|window| window == b"\xab\xcd\xefMaxMind.com").unwrap() + 14;
    for (name, metadata) in [
        ("nothing", vec![]),
        ("a number of 128 bits", vec![0x02, 0x03]),
        ("bytes longer than the file", [vec![0xe9], text("description"), vec![0xe1], text("en"), vec![0x9f]].concat()),
    ] {
        let bytes = [&bytes[..start], &metadata].concat();
        let opened = geoip::Database::from_bytes("raw.mmdb".into(), bytes);
        assert!(matches!(opened, Err(DatabaseError::Damaged { .. })), "{name}");
    }
}

#[test]
fn what_no_look_up_reads_may_be_as_it_likes() {
    let good = Raw::default();
    for (name, raw) in [
        ("no description, no language", good.clone()),
        ("an empty map at the end", good.clone().with("description", [0xe0])),
        ("an empty array at the end", good.clone().with("languages", [0x00, 0x04])),
        ("no type", good.clone().with("database_type", [0x40])),
        ("other languages", good.clone().with("description", map(&[("de", text("Land"))]))),
        ("more metadata", good.clone().with("publisher", map(&[("name", text("Example"))]))),
        ("more metadata that is damaged", good.clone().with("publisher", pointer(2000))),
        ("records of 28 bits", Raw { record_bits: 28, ..good.clone() }),
        ("records of 32 bits", Raw { record_bits: 32, ..good.clone() }),
        ("an IPv6 tree", good.clone().with("ip_version", [0xa1, 6])),
        ("a newer minor version", good.clone().with("binary_format_minor_version", [0xa1, 9])),
        ("nodes that nothing leads to", Raw { nodes: vec![[18, 18], [0xff_ffff, 3]], ..good.clone() }),
        ("data that nothing leads to", Raw { data: [good.data.clone(), vec![0xff; 9]].concat(), ..good.clone() }),
    ] {
        let database = raw.open().unwrap_or_else(|error| panic!("{name}: {error}"));
        let record = database.lookup("81.2.69.142".parse().unwrap()).unwrap();
        assert_eq!(record.country.map(|country| country.to_string()), Some("DE".into()), "{name}");
    }
}

#[test]
fn what_says_nothing_is_refused_for_that() {
    for data in [map(&[("ip", text("test"))]), text("DE"), vec![0x01, 0x04, 0x42, b'D', b'E']] {
        assert!(matches!(Raw::data(data).open(), Err(DatabaseError::Irrelevant { .. })));
    }
}
