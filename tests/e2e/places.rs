//! What counts as a client's place, judged by what origins received: the Union's territory, what a database's record
//! says and what it does not, and databases as people have them.

use meridian_tests::{Client, Setup, World, geo, get, post};
use serde_json::{Value, json};

/// Two regions, and a law that keeps the Union's data at home. A client of unknown country is under it too.
const LAW: &str = r#"
[jurisdictions.eu]
countries = ["@EU"]

[data_classes.personal]

[[residency]]
jurisdiction = "eu"
data_classes = ["personal"]
allow = { countries = ["@EU"] }
transfer = "prohibited"

[residency_defaults]
unlisted_jurisdiction = "allow"

[[routes]]
name = "personal"
data_class = "personal"
"#;

async fn world() -> World {
    World::of_regions(&[("us", "US"), ("de", "DE")], LAW).await
}

/// Where a request of each address is served, by the origins' own account.
async fn assert_served(client: &Client, world: &World, cases: &[(&str, &str)]) {
    for (address, region) in cases {
        for request in [get("/x"), post("/x", "a name")] {
            let sent = request.on_behalf_of(address.parse().expect("an address")).header("x-of", address);
            client.send(&sent).await.assert_served_by(region);
        }
        let elsewhere = world.received_outside(&[region]);
        let leaked = elsewhere.iter().find(|(_, received)| received.header("x-of") == Some(*address));
        assert!(leaked.is_none(), "{address}: {leaked:?}");
    }
}

#[tokio::test]
async fn the_unions_territory_is_the_union_on_every_example() {
    for (example, path, region, home) in [
        ("erlmcp-aws", "/mcp", "us-east-1", &["eu-west-1", "eu-central-1"][..]),
        ("somaagent", "/v1/agents/7", "us-west-2", &["eu-west-1"]),
        ("cortex", "/coordination/status", "us-east-1", &["eu-west-1"]),
        (
            "erlmcp-gcp",
            "/v3/identity",
            "us-central1",
            &["europe-west1", "europe-west2", "europe-west4", "europe-north1"],
        ),
    ] {
        let world = World::of_example(example).await;
        let page = std::fs::read_to_string(meridian_tests::example("somaagent-maintenance.html")).expect("the page");
        let node = Setup::new(region, world.table()).file("somaagent-maintenance.html", page).start().await;
        let client = Client::http1(node.http());
        for country in ["RE", "GP", "GF", "MQ", "YT", "MF", "AX"] {
            for request in [get(path), post(path, "a name")] {
                let answer = client.send(&request.from(country)).await;
                assert_eq!(answer.status, 200, "{example} {country}: {answer:?}");
            }
        }
        world.assert_nothing_outside(home);
    }
}

#[tokio::test]
async fn only_a_country_places() {
    let world = world().await;
    let country = |code: &str| json!({ "iso_code": code });
    let database = geo::of_records(&[
        ("192.0.2.0/28", json!({ "country": country("US") })),
        ("192.0.2.16/28", json!({ "registered_country": country("US") })),
        ("192.0.2.32/28", json!({ "registered_country": country("US"), "continent": { "code": "EU" } })),
        ("192.0.2.48/28", json!({ "registered_country": country("US"), "continent": { "code": "NA" } })),
        ("192.0.2.64/28", json!({ "continent": { "code": "NA" } })),
        ("192.0.2.80/28", json!({ "represented_country": country("US") })),
        ("192.0.2.96/28", json!({ "country": country("EU"), "registered_country": country("US") })),
        ("192.0.2.112/28", json!({ "country": country("ZZ") })),
        ("192.0.2.128/28", json!({ "country": country("US"), "represented_country": country("DE") })),
        ("192.0.2.144/28", json!({ "country": country("US"), "registered_country": country("DE") })),
    ]);
    let node = Setup::new("us", world.table()).database(Some(database)).start().await;
    let client = Client::http1(node.http());
    let cases = [
        ("192.0.2.1", "us"),
        ("192.0.2.17", "de"),
        ("192.0.2.33", "de"),
        ("192.0.2.49", "de"),
        ("192.0.2.65", "de"),
        ("192.0.2.81", "de"),
        ("192.0.2.97", "de"),
        ("192.0.2.113", "de"),
        ("192.0.2.129", "de"),
        ("192.0.2.145", "us"),
    ];
    assert_served(&client, &world, &cases).await;
    let explained = node.ask(&get("/explain?ip=192.0.2.33&path=/x")).await.json();
    assert_eq!((&explained["origin"]["countries"], &explained["origin"]["certain"]), (&json!([]), &json!(false)));
    let evidence = &explained["origin"]["evidence"][0];
    assert_eq!((&evidence["country"], &evidence["field"]), (&Value::Null, &Value::Null));
    let notes = evidence["notes"].to_string();
    assert!(notes.contains("registered in US, which is no place") && notes.contains("continent EU"), "{notes}");
}

#[tokio::test]
async fn one_source_that_knows_is_enough_and_one_that_contradicts_is_heard() {
    let world = world().await;
    let first = geo::of_records(&[
        ("192.0.2.0/28", json!({ "registered_country": { "iso_code": "US" } })),
        ("192.0.2.16/28", json!({ "registered_country": { "iso_code": "US" }, "continent": { "code": "EU" } })),
        ("192.0.2.32/28", json!({ "registered_country": { "iso_code": "DE" }, "continent": { "code": "NA" } })),
        ("192.0.2.48/28", json!({ "country": { "iso_code": "FR" } })),
        ("192.0.2.64/28", json!({ "represented_country": { "iso_code": "DE" } })),
    ]);
    let second = geo::of_records(&[("192.0.2.0/24", json!({ "country_code": "US" }))]);
    let setup = Setup::new("us", world.table()).database(Some(first));
    let node = setup.file("second.mmdb", second).database_file("second.mmdb").start().await;
    let client = Client::http1(node.http());
    let cases = [
        ("192.0.2.1", "us"),
        // Somewhere in Europe, one says, and the other in the United States.
        ("192.0.2.17", "de"),
        ("192.0.2.33", "us"),
        ("192.0.2.49", "de"),
        ("192.0.2.65", "de"),
        ("192.0.2.81", "us"),
    ];
    assert_served(&client, &world, &cases).await;
    let line = node.access_log().find("the line", |line| line.contains("\"countries\":[\"FR\",\"US\"]")).await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    let told = |index: usize| [&line["place"][index]["country"], &line["place"][index]["field"]].map(Value::clone);
    assert_eq!(told(0), [json!("FR"), json!("country.iso_code")]);
    assert_eq!(told(1), [json!("US"), json!("country_code")]);
    assert_eq!(line["place"][1]["source"], "second.mmdb");
}

#[tokio::test]
async fn the_databases_own_flag_of_the_union_is_heard() {
    let world = World::of_regions(&[("us", "US"), ("de", "DE"), ("br", "BR")], &law_with_brazil()).await;
    let flagged = |code: &str, flag: bool| json!({ "country": { "iso_code": code, "is_in_european_union": flag } });
    let database = geo::of_records(&[
        ("192.0.2.0/28", flagged("US", true)),
        ("192.0.2.16/28", flagged("US", false)),
        ("192.0.2.32/28", flagged("DE", true)),
        ("192.0.2.48/28", flagged("RE", true)),
        ("192.0.2.64/28", flagged("DE", false)),
        ("192.0.2.80/28", json!({ "country_code": "US", "is_in_european_union": "1" })),
        // Of a registration it says nothing.
        (
            "192.0.2.96/28",
            json!({
                "country": { "iso_code": "US" },
                "registered_country": { "iso_code": "DE", "is_in_european_union": true },
            }),
        ),
    ]);
    let node = Setup::new("us", world.table()).database(Some(database)).start().await;
    let client = Client::http1(node.http());
    let cases = [
        ("192.0.2.1", "de"),
        ("192.0.2.17", "us"),
        ("192.0.2.33", "de"),
        ("192.0.2.49", "de"),
        ("192.0.2.81", "de"),
        ("192.0.2.97", "us"),
    ];
    assert_served(&client, &world, &cases).await;
    // A member that is flagged as outside may be anywhere: in Brazil, too, whose law leaves nothing in common.
    let contradictory = get("/x").on_behalf_of("192.0.2.65".parse().expect("an address"));
    client.send(&contradictory).await.assert_refused(451, "residency_prohibited");
    let explained = node.ask(&get("/explain?ip=192.0.2.1&path=/x")).await.json();
    assert_eq!(explained["origin"]["countries"].as_array().map(Vec::len), Some(35));
    let sources = explained["origin"]["sources"].to_string();
    assert!(sources.contains("is_in_european_union is true, and US is not in @EU"), "{sources}");
    let line = node.access_log().find("the line", |line| line.contains("US is not in @EU")).await;
    assert!(line.contains("\"field\":\"country.iso_code\""), "{line}");
}

fn law_with_brazil() -> String {
    let brazil = "[jurisdictions.br]\ncountries = [\"BR\"]\n\
        [[residency]]\njurisdiction = \"br\"\ndata_classes = [\"personal\"]\nallow = { countries = [\"BR\"] }\n";
    format!("{LAW}{brazil}")
}

#[tokio::test]
async fn a_database_without_a_description_places() {
    let world = world().await;
    let flat = geo::flat(&[("192.0.2.0/28", "US"), ("192.0.2.16/28", "FR"), ("2001:db8:1::/48", "US")]);
    let node = Setup::new("us", world.table()).database(Some(flat)).start().await;
    let client = Client::http1(node.http());
    let cases = [
        ("192.0.2.1", "us"),
        ("192.0.2.17", "de"),
        ("2001:db8:1::1", "us"),
        // Not listed.
        ("192.0.2.33", "de"),
        ("2001:db8:2::1", "de"),
    ];
    assert_served(&client, &world, &cases).await;
}

#[tokio::test]
async fn unknown_clients_are_treated_like_those_of_the_jurisdictions_named() {
    let like =
        law_with_brazil().replace("[residency_defaults]", "[residency_defaults]\nunknown_origin = { like = [\"br\"] }");
    let world = World::of_regions(&[("us", "US"), ("de", "DE"), ("br", "BR")], &like).await;
    let node = Setup::new("us", world.table()).start().await;
    let client = Client::http1(node.http());
    for address in [geo::UNLISTED, geo::ANONYMOUS] {
        client.send(&get("/x").on_behalf_of(address)).await.assert_served_by("br");
    }
    world.assert_nothing_outside(&["br"]);
    client.send(&get("/x").from("DE")).await.assert_served_by("de");
    let explained = node.ask(&get(&format!("/explain?ip={}&path=/x", geo::UNLISTED))).await.json();
    assert_eq!(explained["origin"]["like"], json!(["br"]));
    assert_eq!(explained["jurisdictions"], json!(["br"]));
}
