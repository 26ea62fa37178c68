//! Each key of the node file is changed under a running node: what `/status` does not name behaves from then on as it
//! does after a restart, and what it names stays as it was until then. `config` proves the same of the settings
//! themselves, whatever changes together; here it is asked what the process does.

mod looks;
mod site;

use meridian_tests::eventually;

use self::looks::Look;
use self::site::Site;

/// One key.
struct Change {
    /// The key as the reference has it.
    key: &'static str,
    /// A piece of the node file, and what it becomes.
    from: String,
    to: String,
    /// What to look at, and what is there before and after.
    look: Look,
    before: &'static str,
    after: &'static str,
    /// What `/status` names until a restart; nothing where the change is live.
    needs_restart: &'static [&'static str],
}

/// A change that is in force at once.
fn live(
    key: &'static str,
    (from, to): (&str, &str),
    look: Look,
    (before, after): (&'static str, &'static str),
) -> Change {
    Change { key, from: from.to_owned(), to: to.to_owned(), look, before, after, needs_restart: &[] }
}

/// One that needs a restart.
fn fixed(
    key: &'static str,
    pieces: (&str, &str),
    look: Look,
    found: (&'static str, &'static str),
    needs_restart: &'static [&'static str],
) -> Change {
    Change { needs_restart, ..live(key, pieces, look, found) }
}

async fn all(changes: Vec<Change>) {
    let mut site = Site::start().await;
    for change in changes {
        try_out(&mut site, &change).await;
    }
}

async fn try_out(site: &mut Site, change: &Change) {
    let Change { key, from, to, before, after, needs_restart, .. } = change;
    let base = site.file.clone();
    assert_eq!(base.matches(from).count(), 1, "{key}: {from} is once in\n{base}");
    found(site, change, "before", before).await;
    apply(site, &base.replacen(from, to, 1)).await;
    assert_eq!(site.node.status().await["needs_restart"], serde_json::json!(needs_restart), "{key}");
    let at_once = if needs_restart.is_empty() { after } else { before };
    found(site, change, "after the reload", at_once).await;
    site.node.restart("KILL").await;
    site.node.serves().await;
    assert_eq!(site.node.status().await["needs_restart"], serde_json::json!([]), "{key}");
    found(site, change, "after a restart", after).await;
    // And back.
    apply(site, &base).await;
    if !needs_restart.is_empty() {
        assert_ne!(site.node.status().await["needs_restart"], serde_json::json!([]), "{key}");
        site.node.restart("KILL").await;
        site.node.serves().await;
    }
    found(site, change, "back again", before).await;
}

/// Waits until it is seen: a probe or an address may have to be found anew first.
async fn found(site: &Site, change: &Change, when: &str, expected: &str) {
    eventually(&format!("{} {when}", change.key), async || {
        let seen = change.look.at(site).await;
        if seen == expected { Ok(()) } else { Err(format!("{seen:?} instead of {expected:?}")) }
    })
    .await;
}

async fn apply(site: &Site, file: &str) {
    let skipped = site.node.log().count();
    site.node.replace("node.toml", file);
    site.node.logged_after(skipped, "node file applied").await;
}

#[tokio::test]
async fn of_the_process_and_its_sockets() {
    all(vec![
        fixed("node.name", ("\"test\"", "\"other\""), Look::Status("/node"), ("test", "other"), &["node.name"]),
        fixed("node.region", ("\"us\"", "\"de\""), Look::Status("/region"), ("us", "de"), &["node.region"]),
        fixed("node.threads", ("threads = 1", "threads = 2"), Look::Workers, ("1", "2"), &["node.threads"]),
        fixed(
            "admin.address",
            ("[admin]\naddress = \"127.0.0.1:0\"", "[admin]\naddress = \"127.0.0.4:0\""),
            Look::Admin,
            ("127.0.0.1", "127.0.0.4"),
            &["admin.address"],
        ),
        live("admin.hosts", ("[admin]\n", "[admin]\nhosts = [\"ops.test\"]\n"), Look::AdminHost, ("403", "200")),
        fixed(
            "listeners[].address",
            ("\"127.0.0.2:0\"", "\"127.0.0.3:0\""),
            Look::Listeners,
            ("127.0.0.1, 127.0.0.2", "127.0.0.1, 127.0.0.3"),
            &["listeners[1].address", "listeners (without 127.0.0.2:0)"],
        ),
        fixed(
            "listeners[].tls",
            ("[[listeners]]\naddress = \"127.0.0.1:0\"\n", TLS_INSTEAD),
            Look::FirstListenerIsPlain,
            ("true", "false"),
            &["listeners[0].tls"],
        ),
        live(
            "listeners[].tls.certificates",
            ("\"tls-0.pem\", key = \"tls-0-key.pem\"", "\"other.pem\", key = \"other-key.pem\""),
            Look::Certificate(site::HOST),
            ("first", "other"),
        ),
        live(
            "listeners[].redirect_to_https",
            (
                "[[listeners]]\naddress = \"127.0.0.1:0\"\n",
                "[[listeners]]\naddress = \"127.0.0.1:0\"\nredirect_to_https = true\n",
            ),
            Look::Get("/"),
            ("200 us", "308"),
        ),
        live(
            "listeners[].redirect_port",
            (
                "[[listeners]]\naddress = \"127.0.0.1:0\"\n",
                "[[listeners]]\naddress = \"127.0.0.1:0\"\nredirect_to_https = true\nredirect_port = 8443\n",
            ),
            Look::Location,
            ("none", "https://api.example.com:8443/"),
        ),
        live(
            "listeners[].proxy_protocol",
            (
                "[[listeners]]\naddress = \"127.0.0.1:0\"\n",
                "[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"trusted\"\n",
            ),
            Look::ProxyHeader,
            ("refused", "200"),
        ),
        live(
            "listeners[].health_path",
            (
                "[[listeners]]\naddress = \"127.0.0.1:0\"\n",
                "[[listeners]]\naddress = \"127.0.0.1:0\"\nhealth_path = \"off\"\n",
            ),
            Look::Health,
            ("200", "400"),
        ),
        fixed(
            "routing.file",
            ("\"routes.toml\"", "\"other-routes.toml\""),
            Look::Status("/table/version"),
            ("1", "other"),
            &["routing.file"],
        ),
        live(
            "log.client_addresses",
            ("client_addresses = \"truncated\"", "client_addresses = \"full\""),
            Look::LoggedClient,
            ("192.0.2.0", "192.0.2.17"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn of_who_clients_and_nodes_are() {
    let asns = format!("anonymous_asns = [{}]\n", meridian_tests::geo::asn_of("US"));
    all(vec![
        live("geoip.databases", ("\"countries.mmdb\"", "\"moved.mmdb\""), Look::Country, ("DE", "BR")),
        live("geoip.trusted_proxies", ("\"127.0.0.1/32\"", "\"127.0.0.9/32\""), Look::Country, ("DE", "none")),
        live(
            "geoip.country_header",
            ("[geoip]\n", "[geoip]\ncountry_header = \"cf-ipcountry\"\n"),
            Look::SaidToBeGerman,
            ("200 us", "200 de"),
        ),
        live("geoip.anonymous_asns", ("[geoip]\n", &format!("[geoip]\n{asns}")), Look::American, ("200 us", "451")),
        live(
            "geoip.max_change",
            ("max_change = \"1%\"", "max_change = \"off\""),
            Look::NewDatabase,
            ("held", "in force"),
        ),
        live("tokens.keys", ("\"issuer.pem\"", "\"other-issuer.pem\""), Look::Consents, ("true", "false")),
        live(
            "tokens.issuer",
            ("issuer = \"https://id\"", "issuer = \"https://other\""),
            Look::Consents,
            ("true", "false"),
        ),
        live("tokens.audience", ("audience = \"api\"", "audience = \"other\""), Look::Consents, ("true", "false")),
        live(
            "peers.certificate_authorities",
            ("\"peers-ca.pem\"", "\"both-ca.pem\""),
            Look::NodeOf("others", "b.nodes.example.com"),
            ("refused", "taken"),
        ),
        live(
            "peers.names",
            ("[\"*.nodes.example.com\"]", "[\"*.nodes.example.com\", \"b.test\"]"),
            Look::NodeOf("nodes", "b.test"),
            ("refused", "taken"),
        ),
        live(
            "peers.certificate",
            ("\"node.pem\", key = \"node-key.pem\"", "\"other-node.pem\", key = \"other-node-key.pem\""),
            Look::Certificate("us.nodes.example.com"),
            ("node", "other-node"),
        ),
        live(
            "peers.rollover",
            ("secret_file = \"peers.key\"", "secret_file = \"peers.key\"\nrollover = true"),
            Look::Status("/peers/rollover"),
            ("false", "true"),
        ),
        live(
            "peers.secret_file",
            ("\"peers.key\"", "\"other-peers.key\""),
            Look::Get("/gateway"),
            ("5xx", "200 gateway"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn of_limits() {
    all(vec![
        live(
            "limits.requests_in_flight",
            ("requests_in_flight = 100", "requests_in_flight = 1"),
            Look::WhileOneStalls,
            ("200 us", "5xx"),
        ),
        live(
            "limits.requests_in_flight_per_region",
            // Below 64 a worker, counted one by one.
            ("per_region = 50", "per_region = 25"),
            Look::UtilisationOfOne,
            ("2 %", "4 %"),
        ),
        live(
            "limits.connections",
            ("\nconnections = 100", "\nconnections = 1"),
            Look::SecondConnection,
            ("200 us", "closed"),
        ),
        live(
            "limits.connections_per_client",
            ("connections_per_client = 0", "connections_per_client = 1"),
            Look::SecondConnectionOfAStranger,
            ("200 us", "closed"),
        ),
        live(
            "limits.requests_in_flight_per_client",
            ("in_flight_per_client = 0", "in_flight_per_client = 1"),
            Look::WhileOneStalls,
            ("200 us", "429"),
        ),
        live("limits.tunnels", ("\ntunnels = 100", "\ntunnels = 0"), Look::Tunnel, ("101", "503")),
        live("limits.header_bytes", ("header_bytes = 65536", "header_bytes = 1024"), Look::LongHead, ("200", "431")),
        live("limits.headers", ("\nheaders = 100", "\nheaders = 5"), Look::ManyFields, ("200", "431")),
        live(
            "limits.header_timeout",
            ("header_timeout = \"60s\"", "header_timeout = \"100ms\""),
            Look::SlowHead,
            ("waits", "ended"),
        ),
        live(
            "limits.keep_alive",
            ("keep_alive = \"60s\"", "keep_alive = \"100ms\""),
            Look::IdleConnection,
            ("waits", "ended"),
        ),
        live("limits.body_bytes", ("body_bytes = 1000", "body_bytes = 5"), Look::Post, ("200", "413")),
        live(
            "limits.body_timeout",
            ("body_timeout = \"60s\"", "body_timeout = \"100ms\""),
            Look::SlowBody,
            ("waits", "ended"),
        ),
        live(
            "limits.body_rate",
            ("body_rate = 0\nbody_timeout = \"60s\"", "body_rate = 1000000000\nbody_timeout = \"300ms\""),
            Look::TricklingBody,
            ("waits", "ended"),
        ),
        live(
            "limits.tunnel_idle_timeout",
            ("tunnel_idle_timeout = \"60s\"", "tunnel_idle_timeout = \"100ms\""),
            Look::IdleTunnel,
            ("waits", "ended"),
        ),
        live(
            "limits.memory",
            ("\nmemory = 0", "\nmemory = \"2GiB\""),
            Look::Status("/overload/memory_limit_bytes"),
            ("null", "2147483648"),
        ),
        live(
            "limits.body_memory",
            ("body_memory = \"1GiB\"", "body_memory = \"64MiB\""),
            Look::Status("/overload/body_limit_bytes"),
            ("1073741824", "67108864"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn of_connections_to_origins() {
    let mut site = Site::start().await;
    let nameservers = [&site.dns, &site.other_dns].map(|dns| dns.address.to_string());
    for change in [
        live(
            "upstream.certificate_authorities",
            ("\"ca.pem\"", "\"other-ca.pem\""),
            Look::Get("/tls"),
            ("200 tls", "5xx"),
        ),
        live("upstream.nameservers", (&nameservers[0], &nameservers[1]), Look::Origin("/named"), ("one", "two")),
        live(
            "upstream.connect_timeout",
            ("connect_timeout = \"2s\"", "connect_timeout = \"100ms\""),
            Look::SilentOrigin,
            ("late", "soon"),
        ),
        live(
            "upstream.idle_timeout",
            ("\nidle_timeout = \"60s\"", "\nidle_timeout = \"1ms\""),
            Look::Pooled,
            ("kept", "opened anew"),
        ),
        live(
            "upstream.idle_connections",
            ("idle_connections = 100", "idle_connections = 0"),
            Look::Pooled,
            ("kept", "opened anew"),
        ),
        live(
            "upstream.via",
            ("idle_connections = 100", "idle_connections = 100\nvia = false"),
            Look::Via,
            ("true", "false"),
        ),
        live(
            "upstream.absence_grace",
            ("absence_grace = \"1h\"", "absence_grace = \"0s\""),
            Look::AbsentName,
            ("200 named", "5xx"),
        ),
    ] {
        try_out(&mut site, &change).await;
    }
}

/// It is read when the node is asked to leave, which ends it: no look that others can follow.
#[tokio::test]
async fn of_the_end() {
    let (key, mut site) = ("drain.announce", Site::start().await);
    let [at_once, never] = ["announce = \"0s\"", "announce = \"1h\""];
    let base = site.file.clone();
    assert_eq!(base.matches(at_once).count(), 1, "{key}");
    apply(&site, &base.replacen(at_once, never, 1)).await;
    assert_eq!(site.node.status().await["needs_restart"], serde_json::json!([]), "{key}");
    site.node.signal("TERM");
    site.node.logged_after(0, "draining").await;
    found(&site, &live("drain.announce", (at_once, never), Look::Get("/"), ("", "")), "while it leaves", "200 us")
        .await;
    site.node.restart("KILL").await;
    site.node.serves().await;
    apply(&site, &base).await;
    site.node.signal("TERM");
    assert_eq!(site.node.exited().await.code(), Some(0), "{key}");
}

/// What the reference lists is tried here; keys of `[routing] bus` are those of `config`'s own test.
#[test]
fn every_key_of_the_reference_is_tried() {
    let reference = include_str!("../../../config/REFERENCE.md");
    let (_, table) = reference.split_once("## The node file").expect("the section");
    let (table, _) = table.split_once("\n## ").expect("its end");
    let source = include_str!("every_key.rs");
    let mut prefix = String::new();
    let mut keys = 0;
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Key")) {
        let mut cell = row.split('|').nth(1).expect("a cell").trim();
        if let Some((bold, rest)) = cell.strip_prefix("**`").and_then(|cell| cell.split_once("`**")) {
            prefix = bold.to_owned();
            cell = rest;
        }
        for key in cell.split('`').skip(1).step_by(2).map(|key| key.trim_end_matches("[]")) {
            let key = if key.contains('.') { key.to_owned() } else { format!("{prefix}{key}") };
            let tried = source.contains(&format!("\"{key}\","));
            assert!(tried || key.starts_with("routing.bus.") || key == "routing.max_age", "{key} is not tried");
            keys += 1;
        }
    }
    assert!(keys > 50, "{keys} keys");
}

const TLS_INSTEAD: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n\
    tls = { certificates = [{ certificate = \"other.pem\", key = \"other-key.pem\" }] }\n";
