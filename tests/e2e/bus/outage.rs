//! The bus dies, hangs and restarts under a node that serves: no request fails, and what is published afterwards is
//! in force.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meridian_tests::eventually;
use meridian_tests::load::assert_all_served;

use super::{Following, becomes, has, table};

/// Waits until the node has noticed that its bus is away, and gives how long that took.
async fn notices(following: &Following) -> Duration {
    let began = Instant::now();
    becomes(&following.node, "the loss of the bus", |status| status["bus"]["connection"]["state"] == "disconnected")
        .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_dies_and_one_that_hangs_cost_nothing() {
    let mut following = Following::start().await;
    let load = following.load();
    load.more(20, "answers before", |_| true).await;

    following.bus.kill();
    let died = notices(&following).await;
    load.more(50, "answers without a bus", |_| true).await;
    following.bus.revive().await;
    following.probe = following.bus.probe().await;
    let began = Instant::now();
    following.publish("after death").await;
    let back = began.elapsed();

    following.bus.stop();
    let hung = notices(&following).await;
    following.bus.go_on();
    let began = Instant::now();
    following.publish("after a stop").await;
    eprintln!(
        "death noticed in {died:.1?}, back in {back:.1?}; stop noticed in {hung:.1?}, back in {:.1?}",
        began.elapsed()
    );
    assert!(died.max(hung) < Duration::from_secs(10), "{died:?}, {hung:?}");
    assert_all_served(&load.stop().await);
}

/// As often as `MERIDIAN_BUS_RESTARTS` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_after_each_of_many_restarts_is_in_force() {
    let restarts = std::env::var("MERIDIAN_BUS_RESTARTS").map_or(4, |count| count.parse().expect("a number"));
    let mut following = Following::start().await;
    let load = following.load();
    load.more(20, "answers before", |_| true).await;
    let mut slowest = Duration::ZERO;
    for number in 0..restarts {
        following.bus.kill();
        following.bus.revive().await;
        following.probe = following.bus.probe().await;
        let began = Instant::now();
        let revision = following.probe.put("table", table(&following.world, &number.to_string())).await;
        has(&following.node, revision).await;
        slowest = slowest.max(began.elapsed());
    }
    eprintln!("{restarts} restarts, the slowest table after {slowest:.1?}");
    assert_all_served(&load.stop().await);
    // Connections of former lives are gone, but for those that have yet to find out.
    eventually("one connection to the bus", async || {
        let count = connections(following.node.pid(), following.bus.address());
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
}

/// How many connections a process has to an address of loopback.
fn connections(pid: u32, to: SocketAddr) -> usize {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process of ours");
    let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    let sockets: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("a process of ours");
    let remote = format!("0100007F:{:04X}", to.port());
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Its columns: number, here, there, state, and in the tenth the inode.
    rows.filter(|row| row.get(2) == Some(&remote.as_str()))
        .filter(|row| row.get(9).is_some_and(|inode| sockets.contains(&format!("socket:[{inode}]"))))
        .count()
}
