//! The routing table.

use std::fs;
use std::os::unix::fs::symlink;

use loadtest::{Outcome, RequestSpec, Target};
use meridian_tests::load::{Load, assert_all_served};
use meridian_tests::{Client, Node, Setup, World, eventually, get};
use serde_json::Value;

/// In version `n` all of `/data` belongs in one of two regions, in turn. It is replaced a hundred times, by renaming
/// and in place, while requests come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_cost_nothing() {
    let world = World::of_regions(&[("left", "US"), ("right", "US")], "").await;
    let version = |number: usize| {
        let side = ["left", "right"][number % 2];
        let text = world.table().replacen("version = \"1\"", &format!("version = \"v{number}\""), 1);
        text + &format!(
            "[data_classes.bound]\n[jurisdictions.us]\ncountries = [\"US\"]\n\
             [residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
             [[residency]]\njurisdiction = \"us\"\ndata_classes = [\"bound\"]\nregulation = \"v{number}\"\n\
             allow = {{ regions = [\"{side}\"] }}\ntransfer = \"prohibited\"\n\
             [[routes]]\nname = \"data\"\npath = \"/data\"\ndata_class = \"bound\"\n\
             [[routes]]\nname = \"{side}\"\npath = \"/{side}\"\ndata_class = \"public\"\n"
        )
    };
    let node = Setup::new("left", &version(0)).start().await;
    let load = Load::start(Target::http1(node.http()), 250.0, |number| {
        let path = ["/data", "/left", "/right"][number as usize % 3];
        let headers = vec![("x-forwarded-for".to_owned(), "192.0.2.1".to_owned())];
        RequestSpec { headers, tag: number as usize % 3, ..RequestSpec::get("api.example.com", path) }
    });
    load.more(20, "answers before", |_| true).await;
    for number in 1..=100 {
        let skipped = node.log().count();
        if number % 3 == 0 {
            node.overwrite("routes.toml", version(number));
        } else {
            node.replace("routes.toml", version(number));
        }
        let applied = node.logged_after(skipped, "routing table applied").await;
        assert_eq!(applied["version"], format!("v{number}"));
    }
    load.more(20, "answers after", |_| true).await;
    let seen = load.stop().await;
    assert_all_served(seen.iter().filter(|observation| observation.tag == 0));
    let mut sides = [0, 0];
    for observation in &seen {
        let Outcome::Answered { status, region, headers, .. } = &observation.outcome else { panic!("{observation:?}") };
        match (observation.tag, status) {
            // Either table sends it to one region, and the origin is in the region that the answer names.
            (0, 200) => {
                let region = region.as_deref().expect("a region");
                assert_eq!(headers["x-origin"], region);
                sides[usize::from(region == "right")] += 1;
            }
            // A route that one of the two tables has.
            (_, 200 | 404) => {}
            _ => panic!("{observation:?}"),
        }
    }
    assert!(sides[0] > 0 && sides[1] > 0, "both tables were in force: {sides:?}");
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("meridian_table_reloads_total", &[("outcome", "applied")]), Some(100.0));
    // A file that is written in place may be seen half written when its writer is held up; that changes nothing.
    let rejected = metrics.sum("meridian_table_reloads_total", &[("outcome", "rejected")]).unwrap_or(0.0);
    assert!(rejected < 10.0, "{rejected}");
    assert_eq!(node.status().await["rejected"], serde_json::json!([]));
    assert_eq!(metrics.sum("meridian_table_info", &[("version", "v100"), ("revision", "101")]), Some(1.0));
}

#[tokio::test]
async fn a_request_in_flight_never_leaves_what_both_tables_allow() {
    let world = World::of_regions(&[("old", "US"), ("new", "US")], "").await;
    let table = |side: &str| {
        world.table().to_owned()
            + &format!(
                "[data_classes.bound]\n[jurisdictions.us]\ncountries = [\"US\"]\n\
                 [residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
                 [[residency]]\njurisdiction = \"us\"\ndata_classes = [\"bound\"]\nregulation = \"test\"\n\
                 allow = {{ regions = [\"{side}\"] }}\ntransfer = \"prohibited\"\n\
                 [[routes]]\nname = \"data\"\ndata_class = \"bound\"\n"
            )
    };
    let node = Setup::new("old", &table("old")).start().await;
    world.behave("old", &loadtest::origin::Behaviour::Stall);
    let client = Client::http1(node.http());
    let request = get("/data").from("US");
    let waiting = tokio::spawn(async move { client.send(&request).await });
    eventually("the request waits in the old region", async || {
        if world.received("old").is_empty() { Err("nothing yet".to_owned()) } else { Ok(()) }
    })
    .await;
    let skipped = node.log().count();
    node.replace("routes.toml", table("new"));
    node.logged_after(skipped, "routing table applied").await;
    // The attempt fails; what the request was decided under allowed only the old region, what holds now only the new.
    world.behave("old", &loadtest::origin::Behaviour::CloseBeforeHead);
    let answer = waiting.await.expect("an answer");
    assert!((500..=503).contains(&answer.status.as_u16()), "{answer:?}");
    world.assert_nothing_outside(&["old"]);
    // The next request belongs to the new table alone.
    Client::http1(node.http()).send(&get("/data").from("US")).await.assert_served_by("new");
}

#[tokio::test]
async fn a_bad_table_changes_nothing_and_says_where_it_is_bad() {
    let world = World::of_regions(&[("here", "US"), ("there", "DE")], ROUTES).await;
    let good = world.table();
    let node = Setup::new("here", good).start().await;
    let mut rejected = 0.0;
    for (what, bad, line, path) in [
        ("syntax", good.replacen("country = \"US\"", "country = US", 1), 4, ""),
        ("unknown key", good.replacen("priority = 0", "prioritty = 0", 1), 5, "regions.here.prioritty"),
        ("unknown region", format!("{good}\n[latency_ms.heer]\nthere = 7\n"), line_count(good) + 2, "latency_ms.heer"),
        ("serves nobody", good.replace("country = ", "state = \"disabled\"\ncountry = "), 0, ""),
        ("no route", good.split("[[routes]]").next().expect("a beginning").to_owned(), 0, "routes"),
        ("the node's region is gone", good.replace("[regions.here]", "[regions.elsewhere]"), 0, "node.region"),
        ("empty", String::new(), 0, ""),
        ("binary", "\u{0}\u{1}\u{2}".to_owned(), 1, ""),
    ] {
        rejected += 1.0;
        node.replace("routes.toml", &bad);
        let problems = eventually(&format!("{what} is rejected"), async || {
            let count = node.metrics().await.sum("meridian_table_reloads_total", &[("outcome", "rejected")]);
            let status = node.status().await;
            if count == Some(rejected) { Ok(problems(&status, "routes.toml")) } else { Err(format!("{count:?}")) }
        })
        .await;
        let found = problems.iter().find(|problem| {
            problem["path"].as_str().is_some_and(|found| found.starts_with(path))
                && (line == 0 || problem["line"] == line)
                && problem["message"].as_str().is_some_and(|message| !message.is_empty())
        });
        assert!(found.is_some(), "{what}: {path:?} at line {line} among {problems:#?}");
        let table = node.ask(&get("/table")).await;
        assert_eq!(table.text(), good, "{what}: the old table is in force");
        Client::http1(node.http()).send(&get("/data").from("US")).await.assert_served_by("here");
    }
    assert_eq!(node.status().await["table"]["revision"], 1);

    // A good one clears it, whether it is the old one or a new one.
    for text in [good.to_owned(), good.replacen("version = \"1\"", "version = \"2\"", 1)] {
        node.replace("routes.toml", &text);
        eventually("nothing is rejected any more", async || {
            let status = node.status().await;
            let in_force = node.ask(&get("/table")).await.text() == text;
            if problems(&status, "routes.toml").is_empty() && in_force { Ok(()) } else { Err(format!("{status:#}")) }
        })
        .await;
    }
    assert_eq!(node.status().await["table"]["version"], "2");
}

#[tokio::test]
async fn a_deleted_table_stays_in_force_until_there_is_another() {
    let world = World::of_regions(&[("here", "US")], ROUTES_WITHOUT_LAW).await;
    let node = Setup::new("here", world.table()).start().await;
    Client::http1(node.http()).send(&get("/data")).await.assert_served_by("here");
    fs::remove_file(node.path("routes.toml")).expect("a file");
    eventually("the loss shows", async || {
        let status = node.status().await;
        if problems(&status, "routes.toml").is_empty() { Err(format!("{status:#}")) } else { Ok(()) }
    })
    .await;
    Client::http1(node.http()).send(&get("/data")).await.assert_served_by("here");
    node.overwrite("routes.toml", world.table().replacen("version = \"1\"", "version = \"2\"", 1));
    version(&node, "2").await;
    assert_eq!(node.status().await["rejected"], serde_json::json!([]));
}

/// A mounted ConfigMap: `routes.toml -> ..data/routes.toml`, `..data -> ..1`; an update renames a new `..data` over
/// the old and removes the old directory.
#[tokio::test]
async fn a_kubernetes_mount_is_followed() {
    let world = World::of_regions(&[("here", "US")], ROUTES_WITHOUT_LAW).await;
    let text = |number: usize| world.table().replacen("version = \"1\"", &format!("version = \"{number}\""), 1);
    let setup = Setup::new("here", &text(0));
    let node_file = setup.node_file().replacen("file = \"routes.toml\"", "file = \"mount/routes.toml\"", 1);
    let mount = tempfile::tempdir().expect("a directory");
    let publish = |number: usize| {
        let directory = mount.path().join(format!("..{number}"));
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join("routes.toml"), text(number)).expect("a file");
        symlink(format!("..{number}"), mount.path().join("..data_tmp")).expect("a link");
        fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).expect("a renamed link");
        if let Some(before) = number.checked_sub(1) {
            fs::remove_dir_all(mount.path().join(format!("..{before}"))).expect("the old directory");
        }
    };
    publish(0);
    symlink("..data/routes.toml", mount.path().join("routes.toml")).expect("a link");
    let node_file =
        node_file.replacen("mount/routes.toml", mount.path().join("routes.toml").to_str().expect("UTF-8"), 1);
    let node = setup.file("node.toml", node_file).start().await;
    version(&node, "0").await;
    for number in 1..=5 {
        publish(number);
        version(&node, &number.to_string()).await;
        Client::http1(node.http()).send(&get("/data")).await.assert_served_by("here");
    }
    assert_eq!(node.status().await["rejected"], serde_json::json!([]));
}

#[tokio::test]
async fn a_changed_maintenance_page_is_a_change() {
    let law = "[jurisdictions.us]\ncountries = [\"US\"]\n[data_classes.bound]\n\
        [residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
        [[residency]]\njurisdiction = \"us\"\ndata_classes = [\"bound\"]\nregulation = \"test\"\n\
        allow = { regions = [\"here\"] }\ntransfer = \"prohibited\"\n\
        when_unavailable = \"maintenance\"\npage = \"page.html\"\n\
        [[routes]]\nname = \"data\"\ndata_class = \"bound\"\n";
    let world = World::of_regions(&[("here", "US"), ("there", "US")], law).await;
    let node = Setup::new("here", world.table()).file("page.html", "<p>first").start().await;
    world.kill("here").await;
    let client = Client::http1(node.http());
    let person = || get("/").from("US").header("accept", "text/html");
    assert_eq!(client.send(&person()).await.text(), "<p>first");
    node.replace("page.html", "<p>second");
    eventually("the new page", async || {
        let answer = client.send(&person()).await;
        if answer.text() == "<p>second" { Ok(()) } else { Err(answer.text().to_owned()) }
    })
    .await;
    world.assert_nothing_outside(&[]);
}

async fn version(node: &Node, wanted: &str) {
    eventually(&format!("version {wanted}"), async || {
        let status = node.status().await;
        if status["table"]["version"] == wanted { Ok(()) } else { Err(format!("{status:#}")) }
    })
    .await;
}

/// The problems that `/status` shows of a file.
fn problems(status: &Value, file: &str) -> Vec<Value> {
    let rejected = status["rejected"].as_array().expect("a list");
    let of_file = rejected.iter().filter(|entry| entry["source"].as_str().is_some_and(|path| path.ends_with(file)));
    of_file.flat_map(|entry| entry["problems"].as_array().expect("a list").clone()).collect()
}

fn line_count(text: &str) -> usize {
    text.lines().count()
}

const ROUTES_WITHOUT_LAW: &str = "[[routes]]\nname = \"data\"\n";

const ROUTES: &str = r#"
[jurisdictions.us]
countries = ["US"]

[data_classes.bound]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "us"
data_classes = ["bound"]
regulation = "test"
allow = { countries = ["US"] }
transfer = "prohibited"

[[routes]]
name = "data"
data_class = "bound"
"#;
