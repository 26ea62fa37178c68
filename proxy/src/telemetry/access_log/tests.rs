//! What is written for a request, and what becomes of it on its way out.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy::pressure::Criticality;
use policy::{Country, Origin, Payload};
use serde_json::{Value, json};
use smallvec::smallvec;

use super::line::{LogLine, Place, TunnelEnd, TunnelSummary};
use super::{AccessLog, LineBuffer};
use crate::telemetry::output::Sink;
use crate::telemetry::time_text::TimeText;

fn line(path: &str) -> LogLine<'_> {
    LogLine {
        request_id: b"id-1",
        client: Some(IpAddr::from([203, 0, 113, 0])),
        origin: Origin::of(["DE", "FR"].iter().filter_map(|code| code.parse().ok()).collect()),
        place: Place { databases: r#"[{"source":"a.mmdb"}]"#, other: None },
        client_key: Some(0xfeed),
        protocol: "HTTP/2",
        method: "GET",
        payload: Payload::Content,
        host: "api.example.com",
        path,
        consent: false,
        declared: smallvec!["eu", "uk"],
        pinned: Some("here"),
        route: Some("all"),
        data_class: Some("customer"),
        lowered_to: None,
        coordinates: None,
        from: "here",
        chosen: false,
        table_version: "1",
        status: 200,
        reason: None,
        region: Some("here"),
        attempts: 1,
        safeguards: true,
        took: Duration::from_nanos(12_034_567),
        response_bytes: 42,
        complete: true,
        call_end: None,
        tunnel: None,
    }
}

fn written(line: &LogLine<'_>) -> String {
    let mut bytes = Vec::new();
    line.write(&mut bytes, b"2026-11-30T15:42:07.005Z");
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_line_has_its_fields_in_their_order() {
    let expected = concat!(
        r#"{"time":"2026-11-30T15:42:07.005Z","request_id":"id-1","client":"203.0.113.0","countries":["DE","FR"],"#,
        r#""place":[{"source":"a.mmdb"}],"client_key":"000000000000feed","protocol":"HTTP/2","method":"GET","#,
        r#""upgrade":false,"content":true,"host":"api.example.com","path":"/x","consent":false,"#,
        r#""declared":["eu","uk"],"pinned":"here","route":"all","data_class":"customer","from":"here","#,
        r#""chosen":false,"table_version":"1","status":200,"reason":null,"region":"here","attempts":1,"#,
        r#""safeguards":true,"duration_ms":12.034,"response_bytes":42,"complete":true}"#,
        "\n"
    );
    assert_eq!(written(&line("/x")), expected);
    let lowered = LogLine { lowered_to: Some(Criticality::Sheddable), ..line("/x") };
    let expected = expected.replace(r#""from":"here""#, r#""criticality":"sheddable","from":"here""#);
    assert_eq!(written(&lowered), expected);
}

#[test]
fn what_is_not_known_has_a_place_too() {
    let bare = LogLine {
        client: None,
        origin: Origin::Unknown,
        place: Place { databases: "", other: None },
        client_key: None,
        declared: smallvec![],
        pinned: None,
        route: None,
        data_class: None,
        reason: Some("no_route"),
        region: None,
        took: Duration::from_micros(7),
        ..line("/")
    };
    let read: Value = serde_json::from_str(&written(&bare)).unwrap();
    for field in ["client", "pinned", "route", "data_class", "region"] {
        assert_eq!(read[field], Value::Null, "{field}");
    }
    assert_eq!((&read["countries"], &read["place"], &read["declared"]), (&json!([]), &json!([]), &json!([])));
    assert_eq!((&read["client_key"], &read["reason"]), (&json!(""), &json!("no_route")));
    assert_eq!(read["duration_ms"], 0.007);
}

#[test]
fn what_few_requests_have_is_written_as_well() {
    let few = LogLine { payload: Payload::Tunnel, chosen: true, safeguards: false, complete: false, ..line("/") };
    let read: Value = serde_json::from_str(&written(&few)).unwrap();
    let flags = ["upgrade", "content", "consent", "chosen", "safeguards", "complete"].map(|field| read[field].clone());
    assert_eq!(flags, [true, false, false, true, false, false].map(Value::from));
    let plain = LogLine { payload: Payload::Nothing, declared: smallvec![], pinned: None, ..line("/") };
    let bare: Value = serde_json::from_str(&written(&plain)).unwrap();
    assert_eq!((&bare["upgrade"], &bare["content"], &bare["consent"]), (&json!(false), &json!(false), &json!(false)));
    assert_eq!((&bare["declared"], &bare["pinned"], &bare["route"]), (&json!([]), &Value::Null, &json!("all")));
    for (consent, declared, pinned) in [(true, &[][..], None), (false, &["eu"][..], None), (false, &[], Some("b"))] {
        let odd = LogLine { consent, declared: declared.into(), pinned, ..line("/") };
        let read: Value = serde_json::from_str(&written(&odd)).unwrap();
        let found = (&read["consent"], &read["declared"], &read["pinned"], &read["route"]);
        assert_eq!(found, (&json!(consent), &json!(declared), &json!(pinned), &json!("all")));
    }
    let one = LogLine {
        origin: "DE".parse().map_or(Origin::Unknown, |country: Country| Origin::Country(country)),
        ..line("/")
    };
    assert_eq!(serde_json::from_str::<Value>(&written(&one)).unwrap()["countries"], json!(["DE"]));
    for number in [0, 9, 10, 4_294_967_295, u64::MAX] {
        let many = LogLine { response_bytes: number, took: Duration::from_millis(1000), ..line("/") };
        let text = written(&many);
        assert!(text.contains(&format!("\"duration_ms\":1000.000,\"response_bytes\":{number},")), "{text}");
    }
}

#[test]
fn texts_are_quoted_as_json() {
    for text in ["", "\"", "\\", "\n\r\t\u{0}\u{1f}", "a\u{7f}ü\u{1f600}", "/</script>"] {
        let (id, place) = (text.as_bytes(), Place { databases: "[]", other: Some("another node") });
        let odd = LogLine { request_id: id, host: text, route: Some(text), place, ..line(text) };
        let text_of_line = written(&odd);
        assert_eq!(text_of_line.matches('\n').count(), 1, "one line: {text_of_line}");
        let read: Value = serde_json::from_str(&text_of_line).unwrap();
        for field in ["request_id", "host", "path", "route"] {
            assert_eq!(read[field], text, "{field}");
        }
    }
    let broken = LogLine { request_id: b"a\xffb", ..line("/") };
    assert_eq!(serde_json::from_str::<Value>(&written(&broken)).unwrap()["request_id"], "a\u{fffd}b");
}

#[test]
fn who_else_says_where_a_client_is_comes_last() {
    let other = json!({
        "source": "the country header", "country": null, "field": null, "notes": ["makes the client's origin another"]
    });
    for databases in ["", "[]", r#"[{"source":"a"}]"#, r#"[{"source":"a"},{"source":"b"}]"#] {
        let told = LogLine { place: Place { databases, other: Some("the country header") }, ..line("/") };
        let read: Value = serde_json::from_str(&written(&told)).unwrap();
        let mut all: Vec<Value> = serde_json::from_str(databases).unwrap_or_default();
        all.push(other.clone());
        assert_eq!(read["place"], Value::from(all), "{databases}");
    }
}

#[test]
fn addresses_and_tunnels_have_their_form() {
    for address in ["0.0.0.0", "255.255.255.255", "2001:db8::", "::1"] {
        let line = LogLine { client: address.parse().ok(), ..line("/") };
        assert_eq!(serde_json::from_str::<Value>(&written(&line)).unwrap()["client"], address);
    }
    let tunnel = Some(TunnelSummary { bytes_up: 1, bytes_down: 2, ended: TunnelEnd::Idle });
    let read: Value = serde_json::from_str(&written(&LogLine { tunnel, ..line("/") })).unwrap();
    assert_eq!(read["tunnel"], json!({"bytes_up": 1, "bytes_down": 2, "ended": "idle"}));
}

#[test]
fn a_time_is_written_anew_for_each_second() {
    let mut text = TimeText::default();
    for (millis, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (1_796_053_327_005, "2026-11-30T15:42:07.005Z"),
        (1_796_053_327_999, "2026-11-30T15:42:07.999Z"),
        (1_796_053_328_000, "2026-11-30T15:42:08.000Z"),
        (1_796_053_327_120, "2026-11-30T15:42:07.120Z"),
    ] {
        assert_eq!(std::str::from_utf8(text.at(Duration::from_millis(millis))), Ok(expected));
    }
}

/// What a writer meets: each write takes so many bytes at most, or fails.
enum Step {
    Takes(usize),
    Fails(io::ErrorKind),
}

/// An output that waits for the test to say what each write meets.
struct Scripted {
    steps: Receiver<Step>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.steps.recv() {
            Ok(Step::Takes(most)) => {
                let taken = &bytes[..most.min(bytes.len())];
                self.taken.lock().unwrap().extend_from_slice(taken);
                Ok(taken.len())
            }
            Ok(Step::Fails(kind)) => Err(kind.into()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Scripted {}

struct Scene {
    log: AccessLog,
    worker: LineBuffer,
    steps: Sender<Step>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Scene {
    fn begin() -> Self {
        let (steps, taken) = (channel(), Arc::<Mutex<Vec<u8>>>::default());
        let log = AccessLog::to(Scripted { steps: steps.1, taken: taken.clone() }).unwrap();
        let worker = log.buffer();
        Self { log, worker, steps: steps.0, taken }
    }

    fn next(&self, step: Step) {
        self.steps.send(step).unwrap();
    }

    fn paths(&self) -> Vec<String> {
        let text = String::from_utf8(self.taken.lock().unwrap().clone()).unwrap();
        let path = |line: &str| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned();
        text.lines().map(path).collect()
    }
}

/// Longer than any test lasts.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_write_that_fails_goes_on_where_it_stopped() {
    let scene = Scene::begin();
    let other_worker = scene.log.buffer();
    for step in [Step::Takes(10), Step::Fails(io::ErrorKind::StorageFull), Step::Takes(1)] {
        scene.next(step);
    }
    scene.next(Step::Fails(io::ErrorKind::Interrupted));
    scene.next(Step::Fails(io::ErrorKind::WouldBlock));
    (0..3).for_each(|_| scene.next(Step::Takes(usize::MAX)));
    scene.worker.write(&line("/1"));
    scene.worker.write(&line("/2"));
    other_worker.write(&line("/3"));
    scene.log.finish(LONG);
    assert_eq!(scene.paths(), ["/1", "/2", "/3"]);
    assert_eq!(scene.log.dropped(), 0);
}

#[test]
fn what_nobody_takes_is_dropped_and_counted() {
    let scene = Scene::begin();
    let path = format!("/{}", "x".repeat(10_000));
    for _ in 0..1000 {
        scene.worker.write(&line(&path));
    }
    let dropped = scene.log.dropped();
    assert!((500..700).contains(&dropped), "10 MB for a queue of 4 MiB: {dropped}");
    // The writer waits in its write, and the end does not wait for it.
    scene.log.finish(Duration::from_millis(10));
    assert_eq!(scene.log.dropped(), 1000);
}

#[test]
fn a_full_buffer_does_not_wait_for_the_end_of_its_time() {
    let scene = Scene::begin();
    (0..200).for_each(|_| scene.next(Step::Takes(usize::MAX)));
    let paths: Vec<String> = (0..2000).map(|number| format!("/{number}")).collect();
    for path in &paths {
        scene.worker.write(&line(path));
    }
    scene.log.finish(LONG);
    assert_eq!((scene.paths(), scene.log.dropped()), (paths, 0));
}

#[test]
fn a_log_that_is_off_takes_nothing() {
    let log = AccessLog::off();
    assert!(!log.buffer().is_on());
    log.buffer().write(&line("/"));
    log.finish(LONG);
}
