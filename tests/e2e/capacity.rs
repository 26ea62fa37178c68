//! What the loss of a region would make of the others: by a table alone, and by a node at the moment.

use meridian_tests::{Setup, World, eventually, get, run};
use serde_json::json;

const REGIONS: &[(&str, &str)] = &[("east", "US"), ("west", "US")];
const ROUTES: &str = "[[routes]]\nname = \"all\"\n";

#[tokio::test]
async fn check_and_a_node_tell_how_full_a_loss_would_make_the_others() {
    let world = World::probed_often(REGIONS, ROUTES).await;
    let table = world.table().replacen("priority = 0\n", "priority = 0\ncapacity_rps = 200\n", 1);
    let table = table.replacen("priority = 1\n", "priority = 1\ncapacity_rps = 100\n", 1);
    let node = Setup::new("east", &table).start().await;
    node.all_up().await;
    let file = node.path("routes.toml");
    let file = file.to_str().expect("a path");
    let check = |more: &[&str]| run(&[&["check", file], more].concat()).stdout;
    let words = check(&[]);
    assert!(words.contains("if east is lost, west would be at 140 %"), "{words}");
    let read: serde_json::Value = serde_json::from_str(&check(&["--format", "json"])).expect("JSON");
    let losses = &read["files"][0]["capacity"]["losses"];
    let taker = json!([{ "region": "west", "share": 1.0, "utilisation": 1.4 }]);
    assert_eq!((&losses[0]["region"], &losses[0]["takers"]), (&json!("east"), &taker), "{read:#}");
    // Idle, a node has nothing to move; what is down takes nothing.
    let now = node.ask(&get("/capacity")).await.json();
    let taker = json!([{ "region": "west", "share": 1.0, "utilisation": 0.0 }]);
    assert_eq!((&now["losses"][0]["takers"], &now["losses"][0]["refused"]), (&taker, &json!(0.0)), "{now:#}");
    assert_eq!(now["without_capacity_rps"], json!([]));
    world.kill("west").await;
    eventually("nobody is left to take it", async || {
        let now = node.ask(&get("/capacity")).await.json();
        let loss = &now["losses"][0];
        if loss["refused"] == 1.0 && loss["takers"] == json!([]) { Ok(()) } else { Err(format!("{now:#}")) }
    })
    .await;
    node.replace("routes.toml", table.replace("capacity_rps = 100\n", ""));
    eventually("nothing is told without a capacity, and that is said", async || {
        let now = node.ask(&get("/capacity")).await.json();
        if now["without_capacity_rps"] == json!(["west"]) { Ok(()) } else { Err(format!("{now:#}")) }
    })
    .await;
}
