//! Origins that say themselves how full they are (ORCA).

use bytes::Bytes;
use http::{HeaderMap, Response};
use loadtest::origin::Behaviour;
use meridian_tests::{Answer, Client, Node, Setup, World, bespoke, eventually, get};

const ROUTES: &str = "
[[routes]]
name = \"all\"
data_class = \"public\"
";

/// Has a region's origin say this of its load in each answer, to probes too.
fn say(world: &World, region: &str, field: &'static str, load: &'static str) {
    let name = region.to_owned();
    world.origin(region).behave(move |_| {
        let answer = Response::builder().header(field, load).header("x-load", "stays").body(Bytes::from(name.clone()));
        Behaviour::Answer(answer.expect("an answer"))
    });
}

async fn ask(node: &Node, client: u8) -> Answer {
    Client::http1(node.http()).send(&get("/").header("x-forwarded-for", &format!("192.0.2.{client}"))).await
}

async fn all_served_by(node: &Node, region: &str) {
    eventually(region, async || {
        for client in 0..20 {
            let answer = ask(node, client).await;
            if answer.text() != region {
                return Err(format!("{client}: {answer:?}"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_origin_that_says_it_is_full_is_spared_until_it_says_otherwise() {
    let world = World::probed_often(&[("here", "US"), ("there", "US")], ROUTES).await;
    say(&world, "here", "endpoint-load-metrics", "TEXT cpu_utilization=0.2");
    say(&world, "there", "endpoint-load-metrics-bin", "CQAAAAAAAOA/");
    let node = Setup::new("here", world.table()).start().await;
    all_served_by(&node, "here").await;
    let answer = ask(&node, 1).await;
    assert_eq!((answer.header("endpoint-load-metrics"), answer.header("x-load").as_deref()), (None, Some("stays")));
    eventually("both are known", async || {
        let metrics = node.metrics().await;
        let of = |region| metrics.sum("meridian_region_utilisation", &[("region", region)]).unwrap_or_default();
        let (here, there) = (of("here"), of("there"));
        if (0.19..0.21).contains(&here) && (0.49..0.51).contains(&there) {
            Ok(())
        } else {
            Err(format!("{here} {there}"))
        }
    })
    .await;

    say(&world, "here", "endpoint-load-metrics", "JSON {\"cpuUtilization\": 0.1, \"applicationUtilization\": 1.2}");
    all_served_by(&node, "there").await;
    // Nobody's requests go there now: probes hear that it has room again.
    say(&world, "here", "endpoint-load-metrics", "cpu_utilization:0.3");
    all_served_by(&node, "here").await;
    // What cannot be read changes nothing, and fails nothing.
    say(&world, "here", "endpoint-load-metrics", "BIN ////");
    all_served_by(&node, "here").await;
}

#[tokio::test]
async fn a_call_says_it_in_its_trailers() {
    let origin = bespoke::tcp(|mut visit| async move {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: endpoint-load-metrics, x-end\r\n\r\n";
        let rest = "4\r\nbody\r\n0\r\nendpoint-load-metrics: TEXT cpu_utilization=0.4\r\nx-end: stays\r\n\r\n";
        visit.connection.write(format!("{head}{rest}")).await;
        visit.connection.read_until_or_close("\r\n\r\n").await;
    })
    .await;
    let table = meridian_tests::SmallTable::new(ROUTES).region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table).start().await;
    let answer = Client::http2(node.http()).send(&get("/")).await;
    let trailers: &HeaderMap = &answer.trailers;
    assert!(trailers.contains_key("x-end") && !trailers.contains_key("endpoint-load-metrics"), "{trailers:?}");
    eventually("it is known", async || {
        let found = node.metrics().await.sum("meridian_region_utilisation", &[("region", "here")]).unwrap_or_default();
        if (0.3..0.41).contains(&found) { Ok(()) } else { Err(format!("{found}")) }
    })
    .await;
}
