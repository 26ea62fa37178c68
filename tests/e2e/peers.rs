//! Who is a node, and who only says so: judged by what origins received.

mod certificates;
mod claims;
mod gateways;
mod rollover;
mod signatures;

use meridian_tests::{Node, eventually};

/// German data stays in Germany, except with consent; a tenant may add its own jurisdiction.
const LAW: &str = r#"
[residency_defaults]
unlisted_jurisdiction = "allow"

[jurisdictions.de]
countries = ["DE"]

[data_classes.bound]

[[residency]]
jurisdiction = "de"
data_classes = ["bound"]
allow = { countries = ["DE"] }
transfer = "with_consent"

[[routes]]
name = "bound"
path = "/bound"
data_class = "bound"
consent_header = "x-data-consent"
jurisdiction_header = "x-tenant"

[[routes]]
name = "public"
data_class = "public"
"#;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Waits until a node takes a region to be in this state, and gives what its endpoint's last probe found.
async fn region_is(node: &Node, name: &str, health: &str) -> String {
    eventually(&format!("{name} is {health}"), async || {
        let status = node.status().await;
        let regions = status["regions"].as_array().expect("a list");
        let region = regions.iter().find(|region| region["name"] == name).expect("the region");
        if region["health"] == health {
            Ok(region["endpoints"][0]["last_probe_failure"].to_string())
        } else {
            Err(region.to_string())
        }
    })
    .await
}
