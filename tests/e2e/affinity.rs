//! Clients that stay where they are: by a signed cookie, or by their address.

use meridian_tests::{Answer, Client, Node, Setup, World, eventually, geo, get};

#[tokio::test]
async fn a_cookie_keeps_a_client_at_its_region() {
    let world = World::of_regions(&[("one", "US"), ("two", "US")], &routes("")).await;
    let node = Setup::new("one", world.table()).start().await;
    let client = Client::http1(node.http());
    let first = client.send(&get("/app").from("US")).await;
    first.assert_served_by("one");
    let set = first.header("set-cookie").expect("a cookie");
    assert!(set.starts_with("meridian-affinity.app="), "{set}");
    for attribute in ["; Path=/", "; Max-Age=3600", "; HttpOnly", "; SameSite=Lax"] {
        assert!(set.contains(attribute), "{set}");
    }
    assert!(!set.contains("Secure"), "over plain HTTP it would not come back: {set}");
    let cookie = value(&first);

    // The table now prefers the other region; whom it has, it keeps.
    prefer(&node, &world, "two", "serving").await;
    let again = client.send(&get("/app").from("US").header("cookie", &format!("a=b; {cookie}; c=d"))).await;
    again.assert_served_by("one");
    assert_eq!(again.header("set-cookie"), None, "its time is not made longer");
    let received = world.received("one").pop().expect("a request");
    assert_eq!(received.headers["cookie"], "a=b; c=d", "the cookie is ours, and goes no further");
    client.send(&get("/app").from("US")).await.assert_served_by("two");

    // Draining is for new clients; disabled is for all.
    prefer(&node, &world, "two", "draining").await;
    client.send(&get("/app").from("US").header("cookie", &cookie)).await.assert_served_by("one");
    client.send(&get("/app").from("US")).await.assert_served_by("two");
    prefer(&node, &world, "two", "disabled").await;
    let moved = client.send(&get("/app").from("US").header("cookie", &cookie)).await;
    moved.assert_served_by("two");
    assert!(value(&moved) != cookie, "pinned anew");
}

#[tokio::test]
async fn a_pin_is_under_the_law_like_everything() {
    let world = World::of_regions(&[("us", "US"), ("de", "DE")], &routes("")).await;
    let node = Setup::new("us", world.table()).start().await;
    let client = Client::http1(node.http());
    let pinned = client.send(&get("/app/personal").from("US")).await;
    pinned.assert_served_by("us");
    let cookie = value(&pinned);
    // The same browser, now in Germany.
    let abroad = client.send(&get("/app/personal").from("DE").header("cookie", &cookie)).await;
    abroad.assert_served_by("de");
    assert_eq!(world.received("us").len(), 1);
    // And back: the newer of its cookies is the one it sends.
    client.send(&get("/app/personal").from("US").header("cookie", &value(&abroad))).await.assert_served_by("de");
}

#[tokio::test]
async fn forged_and_foreign_cookies_say_nothing() {
    let world = World::of_regions(&[("one", "US"), ("two", "US")], &routes("")).await;
    let node = Setup::new("one", world.table()).start().await;
    let client = Client::http1(node.http());
    world.kill("one").await;
    let cookie = value(&client.send(&get("/app").from("US")).await);
    world.revive("one").await;
    eventually("the first region is up", async || {
        let answer = client.send(&get("/app").from("US")).await;
        if answer.region().as_deref() == Some("one") { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    client.send(&get("/app").from("US").header("cookie", &cookie)).await.assert_served_by("two");
    let forged = cookie.replace(".two", ".one");
    let other_route = cookie.replace("affinity.app", "affinity.personal");
    let changed = format!("{}{}", &cookie[..cookie.len() - 8], &cookie[cookie.len() - 7..]);
    for bad in [forged, changed, format!("{cookie}x"), "meridian-affinity.app=".into(), "meridian-affinity.app".into()]
    {
        let answer = client.send(&get("/app").from("US").header("cookie", &bad)).await;
        answer.assert_served_by("one");
        assert!(answer.header("set-cookie").is_some(), "{bad}");
    }
    client.send(&get("/app/personal").from("US").header("cookie", &other_route)).await.assert_served_by("one");
    // The first sound one counts, wherever it stands.
    let among = format!("meridian-affinity.app=0.0.one; x=y; {cookie}");
    client.send(&get("/app").from("US").header("cookie", &among)).await.assert_served_by("two");

    // Another key, as of another fleet.
    let other = world.table().replace("secret = \"", "secret = \"not ");
    let other = Setup::new("one", &other).start().await;
    Client::http1(other.http()).send(&get("/app").from("US").header("cookie", &cookie)).await.assert_served_by("one");
}

#[tokio::test]
async fn an_address_keeps_its_region() {
    let route = "[[routes]]\nname = \"by-address\"\npath = \"/by-address\"\ndata_class = \"public\"\n\
        affinity = { kind = \"client_ip\" }\n";
    let world = World::of_regions(&[("one", "US"), ("two", "US"), ("three", "US")], &routes(route)).await;
    let table =
        (0..3).fold(world.table().to_owned(), |table, n| table.replace(&format!("priority = {n}"), "priority = 0"));
    let node = Setup::new("one", &table).start().await;
    let client = Client::http1(node.http());
    let region = async |subnet| {
        let sent = get("/by-address").on_behalf_of(geo::address_v6("US", subnet));
        client.send(&sent).await.region().expect("a region")
    };
    let mut firsts = Vec::new();
    for subnet in 0..24 {
        firsts.push(region(subnet).await);
    }
    for (subnet, first) in (0..24).zip(&firsts) {
        assert_eq!(region(subnet).await, *first);
    }
    // One region goes: only its own clients move.
    let victim = firsts[0].clone();
    world.kill(&victim).await;
    for (subnet, first) in (0..24).zip(&firsts) {
        let now = region(subnet).await;
        assert_eq!(now == *first, *first != victim, "{subnet}: {first} -> {now}");
    }
}

/// The table with this region preferred and the other in this state, in force.
async fn prefer(node: &Node, world: &World, preferred: &str, other: &str) {
    let version = format!("{preferred} before {other}");
    let table = world.table().replace("version = \"1\"", &format!("version = \"{version}\""));
    let table = table.replace("[regions.one]", &format!("[regions.one]\nstate = \"{other}\""));
    let table = table.replace("priority = 0", "priority = 7");
    node.replace("routes.toml", table);
    eventually("the table is in force", async || {
        let status = node.status().await;
        if status["table"]["version"] == version.as_str() { Ok(()) } else { Err(status["table"].to_string()) }
    })
    .await;
}

/// The cookie as a browser sends it back.
#[track_caller]
fn value(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie in {answer:?}"));
    set.split(';').next().unwrap_or_default().to_owned()
}

fn routes(more: &str) -> String {
    format!(
        r#"
[affinity]
secret = "0123456789abcdef0123456789abcdef"

[jurisdictions.eu]
countries = ["@EU"]

[data_classes.personal]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "eu"
data_classes = ["personal"]
allow = {{ countries = ["@EU"] }}
transfer = "prohibited"

[[routes]]
name = "app"
path = "/app"
data_class = "public"
affinity = {{ kind = "cookie", ttl = "1h" }}

[[routes]]
name = "personal"
path = "/app/personal"
data_class = "personal"
affinity = {{ kind = "cookie", ttl = "1h" }}

{more}"#
    )
}
