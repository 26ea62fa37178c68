//! The name that TLS origins are asked for and must prove, where their route says another than their own.

use loadtest::Protocol;
use loadtest::origin::{Origin, OriginConfig};
use meridian_tests::{Authority, Client, Setup, get};

/// Endpoints are addresses, which their certificate is not for.
#[tokio::test]
async fn an_origin_proves_the_name_that_its_route_says() {
    let authority = Authority::default();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let tls = Some(authority.certify(&["api.example.com"]).server_config());
        let origin =
            Origin::start(OriginConfig { protocol, tls, ..OriginConfig::named("here") }).await.expect("a port");
        let scheme = if protocol == Protocol::Http2 { "h2" } else { "https" };
        let route = |name: &str, lines: &str| format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\n{lines}\n");
        let routes = [
            route("endpoint", ""),
            route("client", "server_name = \"client\""),
            route("named", "server_name = \"API.example.com\""),
        ];
        let health = "path = \"/health\", host = \"api.example.com\", interval = \"1h\"";
        let table = format!(
            "version = \"1\"\n[regions.here]\ncountry = \"US\"\nendpoints = [\"{scheme}://{}\"]\nhealth = {{ {health} }}\n\
             [failover]\noutlier = {{ consecutive_errors = 1000 }}\n{}",
            origin.address(),
            routes.concat()
        );
        let setup = Setup::new("here", &table).threads(1).file("ca.pem", authority.pem());
        let node = setup.section("upstream", "certificate_authorities = [\"ca.pem\"]").start().await;
        node.all_up().await;
        let client = Client::http1(node.http());
        for (path, host, served) in [
            ("/client", "api.example.com", true),
            // What is proved to be one name is not another's, though it is the same endpoint.
            ("/client", "other.example.com", false),
            ("/endpoint", "api.example.com", false),
            ("/named", "other.example.com", true),
            ("/client", "api.example.com", true),
        ] {
            let answer = client.send(&get(path).host(host)).await;
            assert_eq!(answer.status == 200, served, "{protocol:?} {path} {host}: {answer:?}");
        }
    }
}
