use super::*;
use http::request::Parts;

fn parts(fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::get("/v3?a=b").header("host", "api.example.com");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn admitted(peers: Peers, parts: &mut Parts) -> Result<Option<Box<FromPeer>>, NoPeer> {
    let authority = HeaderValue::from_static("api.example.com");
    let (method, uri) = (&parts.method, &parts.uri);
    let claims = Claims { session: None, has_reserved: true, method, uri, authority: &authority, is_at_end: true };
    admit(&Arc::new(peers), &mut parts.headers, claims)
}

fn with_secret() -> Peers {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0123456789abcdef0123456789abcdef").unwrap();
    let config = config::Peers { secret_file: Some(file.path().to_owned()), ..config::Peers::default() };
    Peers::load(Some(&config)).unwrap()
}

fn claim<'a>(request_id: &'a HeaderValue, origin: &'a Origin) -> Claim<'a> {
    Claim {
        address: IpAddr::from([192, 0, 2, 7]),
        is_named: true,
        scheme: "https",
        request_id,
        origin,
        consent: Some("x-consent"),
        tenant: &[],
        criticality: Some(Criticality::Sheddable),
        body: BodyClaim::None,
    }
}

/// Returns a request of a node, on its way.
fn sent(peers: &Arc<Peers>) -> Request<()> {
    let (id, origin) = (HeaderValue::from_static("id-1"), Origin::of(["DE".parse().unwrap()].into_iter().collect()));
    let table = config::RoutingTable::from_afar(
        "t",
        b"[regions.eu]\ncountry='DE'\nendpoints=['10.0.0.1:80']\n[[routes]]\nname='a'\ndata_class='public'\n",
        crate::clock::wall(),
    );
    let table = table.unwrap().table;
    let mut request = Request::get("/v3?a=b").header("host", "api.example.com").body(()).unwrap();
    Vouching::of(&claim(&id, &origin), &table, peers.clone()).write(&mut request, "eu");
    request
}

#[test]
fn a_strangers_fields_are_dropped_unread() {
    let fields = [("x-meridian-chosen", "eu"), ("X_Meridian-Origin", "DE"), ("x-other", "1")];
    let mut parts = parts(&fields);
    assert!(admitted(with_secret(), &mut parts).unwrap().is_none());
    let left: Vec<&str> = parts.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["host", "x-other"]);
}

#[test]
fn what_a_node_vouches_for_arrives() {
    let peers = Arc::new(with_secret());
    let (mut parts, ()) = sent(&peers).into_parts();
    let peer = admitted(with_secret(), &mut parts).unwrap().expect("a node");
    assert!(peer.answering.nonce.is_some(), "by its signature");
    assert_eq!(peer.chosen.as_bytes(), b"eu");
    let Asks::Serve(vouched) = &peer.asks else { panic!("a probe") };
    assert_eq!((vouched.address, vouched.is_named), (IpAddr::from([192, 0, 2, 7]), true));
    assert_eq!((vouched.scheme, vouched.request_id.as_bytes()), ("https", &b"id-1"[..]));
    assert_eq!(vouched.origin, CountryHint::Countries(["DE".parse().unwrap()].into_iter().collect()));
    assert_eq!(vouched.consent.as_ref().map(HeaderValue::as_bytes), Some(&b"x-consent"[..]));
    assert_eq!(vouched.criticality, Some(Criticality::Sheddable));
    assert!(!parts.headers.keys().any(is_reserved));
}

#[test]
fn a_signature_that_does_not_verify_is_no_strangers_request() {
    let peers = Arc::new(with_secret());
    let (good, ()) = sent(&peers).into_parts();
    let mut changed = good.clone();
    changed.headers.insert(fields::ORIGIN, HeaderValue::from_static("US"));
    assert_eq!(admitted(with_secret(), &mut changed).unwrap_err(), SignatureRefusal::Wrong.into());
    assert_eq!(admitted(Peers::default(), &mut good.clone()).unwrap_err(), SignatureRefusal::NoSecret.into());
    let mut claimed = parts(&[("x-meridian-signature", "1")]);
    assert_eq!(admitted(with_secret(), &mut claimed).unwrap_err(), SignatureRefusal::Malformed.into());
}

#[test]
fn an_answer_counts_once_it_is_proved() {
    let peers = Arc::new(with_secret());
    let request = sent(&peers);
    let nonce = request.extensions().get::<Nonce>().copied();
    let (mut parts, ()) = request.into_parts();
    let answering = admitted(with_secret(), &mut parts).unwrap().expect("a node").answering;
    let reason = policy::Reason::EmergencyReadOnly;
    let refusal = PeersRefusal { reason, table: Some(PublishedTable { epoch: 1, revision: 20 }) };
    let answer = |signed: bool, why: Unsent, refused: Option<PeersRefusal>| {
        let mut response = http::Response::builder().status(503).header("x-other", "1").body(()).unwrap();
        let nobody = Answering { peers: Arc::default(), nonce: None };
        let own = OwnWord { unsent: Some(why).filter(|_| refused.is_none()), refused };
        tell_peer(response.headers_mut(), 503, own, if signed { &answering } else { &nobody });
        response
    };
    let gateway = |counterpart| Answerer::Gateway { counterpart, nonce, peers: &peers };
    for (signed, from, is_peers) in [
        (true, gateway(Counterpart::Unproven), true),
        (false, gateway(Counterpart::Unproven), false),
        (false, gateway(Counterpart::Peer), true),
        (true, Answerer::Origin, false),
        (false, Answerer::Origin, false),
    ] {
        let cases = [
            (Unsent::Unserved, None),
            (Unsent::Full, None),
            (Unsent::Full, Some(refusal)),
            (Unsent::Unserved, Some(PeersRefusal { table: None, ..refusal })),
        ];
        for (why, refused) in cases {
            let mut response = answer(signed, why, refused);
            let found = take_answer(&mut response, from);
            let unsent = Some(why).filter(|_| is_peers && refused.is_none());
            let refused = refused.filter(|_| is_peers);
            assert_eq!(found, Answered { is_peers, unsent, is_origins: false, refused }, "{signed} {from:?}");
            assert_eq!(response.headers().len(), 1, "and no origin's copy goes further");
        }
    }
    // What a node passes on is an origin's answer, and a reason that is no emergency's is nobody's.
    for (name, value) in [("x-meridian-region", "eu"), ("x-other", "1")] {
        for of in ["emergency_read_only", "unavailable", "", "EMERGENCY_READ_ONLY"] {
            let response = http::Response::builder().header(name, value).header("x-meridian-refused", of);
            let mut response = response.body(()).unwrap();
            let found = take_answer(&mut response, gateway(Counterpart::Peer)).refused;
            let expected =
                Some(PeersRefusal { table: None, reason }).filter(|_| name == "x-other" && of == reason.name());
            assert_eq!(found, expected, "{name} {of}");
            assert!(!response.headers().contains_key("x-meridian-refused"));
        }
    }
}

#[test]
fn what_an_emergency_refuses_is_asked_of_nobody_else_whatever_has_been_sent() {
    let reason = policy::Reason::EmergencyReadOnly;
    let refusal = PeersRefusal { reason, table: Some(PublishedTable { epoch: 1, revision: 20 }) };
    for said in [None, Some(Unsent::Unserved), Some(Unsent::Full)] {
        let answered = |refused| Answered { is_peers: true, unsent: said, is_origins: false, refused };
        assert_eq!(answered(Some(refusal)).unsent_by(Some(reason)), None, "it binds");
        assert_eq!(answered(Some(refusal)).unsent_by(None), Some(Unsent::Unserved), "it does not");
        assert_eq!(answered(None).unsent_by(None), said);
    }
}

#[test]
fn an_older_tables_emergency_binds_nobody_who_has_a_newer_one() {
    let published = |text: &str| PublishedTable::read(text);
    for (theirs, own, binds) in [
        ("1.20", "1.20", true),
        ("1.21", "1.20", true),
        ("2.3", "1.20", true),
        ("1.19", "1.20", false),
        ("1.99", "2.3", false),
        ("1.9", "1.10", false),
        // A table in a file, another's or the node's own, and what is no table at all.
        ("", "1.20", true),
        ("1.19", "", true),
        ("1", "1.20", true),
        ("-1.1", "1.20", true),
        ("1.1.1", "1.20", true),
    ] {
        let refusal = PeersRefusal { reason: policy::Reason::EmergencyShed, table: published(theirs) };
        assert_eq!(refusal.binds(published(own)), binds, "{theirs} to {own}");
    }
}
