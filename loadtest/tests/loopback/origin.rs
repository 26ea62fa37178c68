//! Does the origin record, misbehave, die and come back as it says?

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadtest::origin::{Behaviour, Blackhole, Origin, OriginConfig};
use loadtest::{Observation, Outcome, Plan, Protocol, RequestSpec, Target, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_request_is_recorded() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let origin = Origin::start(OriginConfig { protocol, ..OriginConfig::default() }).await.unwrap();
        let body = Bytes::from(vec![b'b'; 100_000]);
        let request = RequestSpec {
            method: Method::PUT,
            headers: vec![("x-one".to_owned(), "1".to_owned())],
            body: body.clone(),
            ..RequestSpec::get("api.example.com:8443", "/v3/x?y=z")
        };
        let status = ask(Target { address: origin.address(), protocol, tls: None }, request).await;
        assert_eq!(status, Some(200));
        let [received] = <[_; 1]>::try_from(origin.received()).unwrap();
        assert_eq!((received.method.as_str(), received.path.as_str()), ("PUT", "/v3/x?y=z"));
        assert_eq!(received.host.as_deref(), Some("api.example.com:8443"));
        assert_eq!(received.header("x-one"), Some("1"));
        assert!(received.whole);
        assert_eq!(received.body_length, 100_000);
        assert_eq!(received.body, body.slice(..16 * 1024));
    }
}

#[tokio::test]
async fn a_request_that_is_cut_off_has_still_been_received() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    let mut client = TcpStream::connect(origin.address()).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    client.shutdown().await.unwrap();
    // The origin gives up, so the connection ends.
    client.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!((origin.connections(), origin.requests()), (1, 1));
    let [received] = <[_; 1]>::try_from(origin.received()).unwrap();
    assert!(!received.whole);
}

#[tokio::test]
async fn the_record_keeps_the_latest() {
    let origin = Origin::start(OriginConfig { kept: 3, ..OriginConfig::default() }).await.unwrap();
    let plan = Plan { connections: 1, ..Plan::new(Target::http1(origin.address()), 500.0, Duration::from_millis(20)) };
    run(&plan, |sequence| RequestSpec::get("x", format!("/{sequence}")), |_| {}).await.unwrap();
    let paths: Vec<_> = origin.received().into_iter().map(|received| (received.path, received.whole)).collect();
    assert_eq!(paths, ["/7", "/8", "/9"].map(|path| (path.to_owned(), true)));
    assert_eq!(origin.requests(), 10);
}

#[tokio::test]
async fn behaviour_can_depend_on_the_request() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    origin.behave(|received| match received.path.as_str() {
        "/health" => Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE),
        _ => Behaviour::Normal,
    });
    let target = Target::http1(origin.address());
    assert_eq!(ask(target.clone(), RequestSpec::get("x", "/health")).await, Some(503));
    assert_eq!(ask(target, RequestSpec::get("x", "/")).await, Some(200));
}

#[tokio::test]
async fn a_grpc_answer_ends_with_its_status() {
    let origin = Origin::start(OriginConfig { protocol: Protocol::Http2, ..OriginConfig::default() }).await.unwrap();
    origin.set_behaviour(Behaviour::Grpc);
    let stream = TokioIo::new(TcpStream::connect(origin.address()).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://x/").body(http_body_util::Full::new(Bytes::from_static(b"ask"))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(answer.to_bytes(), "ok");
}

#[tokio::test]
async fn stalled_requests_are_treated_anew() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    origin.set_behaviour(Behaviour::Stall);
    let (status, ()) = tokio::join!(ask(Target::http1(origin.address()), RequestSpec::get("x", "/")), async {
        origin.arrived(1).await;
        origin.set_behaviour(Behaviour::Status(StatusCode::IM_A_TEAPOT));
    });
    assert_eq!(status, Some(418));
}

#[tokio::test]
async fn a_kill_closes_everything_and_a_revival_opens_the_same_port() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    origin.set_behaviour(Behaviour::Stall);
    let mut clients = Vec::new();
    for number in 1..=3 {
        let mut client = TcpStream::connect(origin.address()).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        origin.arrived(number).await;
        clients.push(client);
    }
    for _ in 0..3 {
        origin.kill().await;
        let refused = TcpStream::connect(origin.address()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed without an answer");
        }
        origin.revive().await.unwrap();
        origin.revive().await.unwrap();
        let _ = TcpStream::connect(origin.address()).await.unwrap();
    }
    origin.set_behaviour(Behaviour::Normal);
    assert_eq!(ask(Target::http1(origin.address()), RequestSpec::get("x", "/")).await, Some(200));
    assert_eq!(origin.requests(), 4);
}

/// The status of the answer to one request.
async fn ask(target: Target, request: RequestSpec) -> Option<u16> {
    let plan = Plan { connections: 1, ..Plan::new(target, 1_000.0, Duration::from_millis(1)) };
    let mut answer = None;
    let observe = |observation: &Observation| {
        if let Outcome::Answered { status, .. } = observation.outcome {
            answer = Some(status);
        }
    };
    let report = run(&plan, |_| request.clone(), observe).await.unwrap();
    assert_eq!(report.due, 1);
    answer
}

#[tokio::test]
async fn a_reset_is_one_wherever_it_comes() {
    let origin = Origin::start(OriginConfig { body: Bytes::from_static(b"0123456789"), ..OriginConfig::default() });
    let origin = origin.await.unwrap();
    for (behaviour, head, body) in [
        (Behaviour::ResetBeforeHead, false, ""),
        (Behaviour::ResetAfterHead, true, ""),
        (Behaviour::ResetInBody, true, "01234"),
    ] {
        origin.set_behaviour(behaviour.clone());
        let mut client = TcpStream::connect(origin.address()).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut came = Vec::new();
        let error = client.read_to_end(&mut came).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{behaviour:?}");
        let came = String::from_utf8(came).unwrap();
        assert_eq!(came.starts_with("HTTP/1.1 200 OK\r\n"), head, "{behaviour:?}: {came}");
        let end = came.split_once("\r\n\r\n").map_or("", |(_, end)| end);
        assert_eq!(end, body, "{behaviour:?}");
    }
}

#[tokio::test]
async fn an_http2_connection_is_reset_whole() {
    let origin = Origin::start(OriginConfig { protocol: Protocol::Http2, ..OriginConfig::default() }).await.unwrap();
    for behaviour in [Behaviour::ResetBeforeHead, Behaviour::ResetAfterHead, Behaviour::ResetInBody] {
        origin.set_behaviour(behaviour);
        assert_eq!(ask(Target::http2(origin.address()), RequestSpec::get("x", "/")).await, None);
    }
    origin.set_behaviour(Behaviour::Normal);
    assert_eq!(ask(Target::http2(origin.address()), RequestSpec::get("x", "/")).await, Some(200));
}

#[tokio::test]
async fn connections_to_a_blackhole_hang() {
    let hole = Blackhole::open((std::net::Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    for _ in 0..2 {
        let knock = TcpStream::connect(hole.address());
        assert!(tokio::time::timeout(Duration::from_millis(200), knock).await.is_err(), "neither open nor refused");
    }
    let address = hole.address();
    drop(hole);
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn behaviours_have_names() {
    for name in
        ["normal", "stall", "close", "cut", "reset", "reset-after-head", "reset-in-body", "status=503", "slow=1s"]
    {
        name.parse::<Behaviour>().unwrap();
    }
    for name in ["", "status", "status=x", "slow=x", "normal=1", "nice"] {
        let error = name.parse::<Behaviour>().unwrap_err();
        assert!(error.to_string().contains("is no behaviour"), "{error}");
    }
}
