use meridian_tests::{Client, Setup, World, get};

#[tokio::test]
async fn smoke() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    let answer = Client::http1(node.http()).send(&get("/mcp").from("US")).await;
    answer.assert_served_by("us-east-1");
    println!("{:#}", node.status().await);
}
