//! A bus that is emptied: its revisions start over, and nothing old comes back unnoticed.

use serde_json::Value;

use super::{Following, becomes, counted, has, reports, said, table};

/// Waits until the node ignores what the bus has, for this reason, and says so everywhere.
async fn ignores(following: &Following, why: &str) {
    let says = |notes: &Value| notes.to_string().contains(why);
    let status = becomes(&following.node, "what is ignored", |status| says(&status["bus"]["ignored"])).await;
    assert_eq!(status["table"]["version"], "first", "{status}");
    reports(&following.probe, "a", "a report that says so", |report| {
        says(&report["notes"]) && report["state"] == "applied" && report["version"] == "first"
    })
    .await;
    assert!(counted(&following.node, "ignored").await > 0);
    let ready = following.node.ask(&meridian_tests::get("/ready")).await;
    assert!(ready.status == 200 && ready.text().contains(why), "{ready:?}");
    following.assert_serves().await;
}

#[tokio::test]
async fn after_a_wipe_only_a_new_epoch_counts() {
    let mut following = Following::start().await;
    // Far enough ahead that reports do not overtake it.
    for _ in 0..200 {
        following.probe.put("other", "").await;
    }
    following.publish("first").await;
    following.bus.wipe();
    following.bus.revive().await;
    following.probe = following.bus.probe().await;
    following.probe.create_bucket().await;
    ignores(&following, "there is no table on the bus").await;
    let low = following.probe.put("table", table(&following.world, "low")).await;
    ignores(&following, &format!("revision {low} of epoch 0")).await;
    let epoch = said(&[("Meridian-Epoch", "1")]);
    let taken = following.probe.put_raw("table", table(&following.world, "epoch 1"), epoch).await;
    let status = has(&following.node, taken).await;
    assert_eq!((&status["bus"]["ignored"], &status["bus"]["table"]["epoch"]), (&Value::Null, &1.into()));
    // What is of the old epoch is over, however high its revision.
    let old = following.probe.put("table", table(&following.world, "epoch 0")).await;
    becomes(&following.node, "an old epoch ignored", |status| {
        status["bus"]["ignored"].to_string().contains(&format!("revision {old} of epoch 0"))
    })
    .await;
    following.assert_serves().await;
}

#[tokio::test]
async fn a_deleted_table_stays_in_force() {
    let following = Following::start().await;
    following.probe.delete("table").await;
    ignores(&following, "the table was deleted").await;
    let revision = following.probe.put("table", table(&following.world, "first")).await;
    let status = has(&following.node, revision).await;
    assert_eq!(status["bus"]["ignored"], Value::Null, "{status}");
}

#[tokio::test]
async fn a_bucket_that_is_deleted_under_a_node_and_made_anew_is_followed() {
    let following = Following::start().await;
    following.probe.delete_bucket().await;
    becomes(&following.node, "a bucket that is missed", |status| {
        status["bus"]["connection"]["error"].to_string().contains("no bucket")
    })
    .await;
    following.probe.create_bucket().await;
    ignores(&following, "there is no table on the bus").await;
    let epoch = said(&[("Meridian-Epoch", "1")]);
    let taken = following.probe.put_raw("table", table(&following.world, "second"), epoch).await;
    has(&following.node, taken).await;

    // At once, so that nothing is ever seen to be missing.
    following.probe.delete_bucket().await;
    following.probe.create_bucket().await;
    let epoch = said(&[("Meridian-Epoch", "2")]);
    let taken = following.probe.put_raw("table", table(&following.world, "third"), epoch).await;
    let status = has(&following.node, taken).await;
    assert_eq!(status["table"]["version"], "third", "{status}");
}

/// What a node had in force is what the bus's word is compared with, after a restart too.
#[tokio::test]
async fn a_restart_forgets_nothing() {
    let mut following = Following::start().await;
    following.publish("second").await;
    following.bus.wipe();
    following.bus.revive().await;
    following.probe = following.bus.probe().await;
    following.probe.create_bucket().await;
    let stale = following.probe.put("table", table(&following.world, "stale")).await;
    following.node.restart("KILL").await;
    following.node.serves().await;
    let why = format!("revision {stale} of epoch 0");
    let status =
        becomes(&following.node, "what is ignored", |status| status["bus"]["ignored"].to_string().contains(&why)).await;
    assert_eq!(status["table"]["version"], "second", "{status}");
    assert_eq!(status["bus"]["table"]["from_snapshot"], true, "{status}");
    following.assert_serves().await;
}

/// A bus that is restored from a copy has the same bucket, at an earlier revision: publications up to the one in force
/// would go unheard.
#[tokio::test]
async fn a_bus_that_goes_back_to_an_earlier_state_is_noticed() {
    let mut following = Following::start().await;
    following.bus.kill();
    let copy = following.bus.back_up();
    following.bus.revive().await;
    following.probe = following.bus.probe().await;
    for _ in 0..20 {
        following.probe.put("other", "").await;
    }
    following.publish("second").await;
    following.bus.restore(&copy);
    following.bus.revive().await;
    following.probe = following.bus.probe().await;
    let status = becomes(&following.node, "what is ignored", |status| {
        status["bus"]["ignored"].to_string().contains("which is not after revision")
    })
    .await;
    assert_eq!(status["table"]["version"], "second", "{status}");
    let epoch = said(&[("Meridian-Epoch", "1")]);
    let taken = following.probe.put_raw("table", table(&following.world, "third"), epoch).await;
    has(&following.node, taken).await;
}
