//! What this node answers itself has the form that its client reads: pages for people, documents for programs.

use http::StatusCode;
use meridian_tests::{Answer, Client, Protocol, Setup, World, get, head, post};

#[tokio::test]
async fn browsers_get_a_page_that_says_why() {
    let (world, node) = start("").await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = Client::http1(node.http()).speaking(protocol);
        let answer = client.send(&get("/").from("DE").header("accept", BROWSER)).await;
        assert_page(&answer, 451);
        let id = answer.header("x-request-id").expect("an id");
        for part in ["<h1>Unavailable for legal reasons</h1>", "residency_prohibited", &id, "https://law.example/why"] {
            assert!(answer.text().contains(part), "{part} in {}", answer.text());
        }
        let loads = answer.header("content-security-policy");
        assert!(loads.is_some_and(|rule| rule.starts_with("default-src 'none'")), "{answer:?}");
        assert_eq!(answer.header("link").as_deref(), Some("<https://law.example/why>; rel=\"blocked-by\""));

        // Of HEAD, all but the content.
        let bare = client.send(&head("/").from("DE").header("accept", BROWSER)).await;
        assert_eq!((bare.status.as_u16(), bare.body.len()), (451, 0));
        assert_eq!(bare.header("content-length"), Some(answer.body.len().to_string()));
        assert_page_head(&bare);

        for accept in ["*/*", "application/json", "text/html;q=0", "text/html;q=0.5, application/json"] {
            let answer = client.send(&get("/").from("DE").header("accept", accept)).await;
            answer.assert_refused(451, "residency_prohibited");
            assert_eq!(answer.header("vary").as_deref(), Some("accept"));
            assert_eq!(answer.header("link").as_deref(), Some("<https://law.example/why>; rel=\"blocked-by\""));
            assert_eq!(
                Some(answer.json()["request_id"].as_str().expect("text")),
                answer.header("x-request-id").as_deref()
            );
        }
        // A form is sent by a person, but what sends it may be a script.
        client
            .send(&post("/", "x").from("DE").header("accept", BROWSER))
            .await
            .assert_refused(451, "residency_prohibited");
        let missing = client.send(&get("/none").host("other.example").header("accept", BROWSER)).await;
        assert_page(&missing, 404);
        assert!(missing.text().contains("<h1>Page not found</h1>") && missing.header("link").is_none());
    }
    world.assert_nothing_outside(&[]);
}

#[tokio::test]
async fn the_operators_page_is_for_people() {
    let page = "when_unavailable = \"maintenance\"\npage_text = \"<p>back at nine\"\n";
    let (world, node) = start(page).await;
    world.kill("first").await;
    let client = Client::http1(node.http());
    let answer = client.send(&get("/").from("FR").header("accept", BROWSER)).await;
    assert_page_head(&answer);
    assert_eq!((answer.status, answer.text()), (StatusCode::SERVICE_UNAVAILABLE, "<p>back at nine"));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    // Its operator's page may load what it likes.
    assert_eq!(answer.header("content-security-policy"), None);
    let bare = client.send(&head("/").from("FR").header("accept", BROWSER)).await;
    assert_eq!((bare.header("content-length").as_deref(), bare.body.len()), (Some("15"), 0));
    client.send(&get("/").from("FR").header("accept", "*/*")).await.assert_refused(503, "residency_unavailable");
    let call = post("/", "x").from("FR").header("content-type", "application/grpc");
    let answer = client.send(&call).await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status").as_deref()), (200, Some("14")), "{answer:?}");
    assert!(answer.header("grpc-message").is_some_and(|words| words.starts_with("residency_unavailable: ")));
}

/// A node of a law that keeps data of `de` everywhere away, and that of `fr` in the region; the rule for that has more
/// lines.
async fn start(more: &str) -> (World, meridian_tests::Node) {
    let law = format!(
        "[jurisdictions.de]\ncountries = [\"DE\"]\n[jurisdictions.fr]\ncountries = [\"FR\"]\n[data_classes.bound]\n\
         [residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
         [[residency]]\njurisdiction = \"de\"\ndata_classes = [\"bound\"]\nallow = []\n\
         blocked_by = \"https://law.example/why\"\n\
         [[residency]]\njurisdiction = \"fr\"\ndata_classes = [\"bound\"]\nallow = {{ regions = [\"first\"] }}\n{more}\
         [[routes]]\nname = \"all\"\nhost = \"api.example.com\"\ndata_class = \"bound\"\n"
    );
    let world = World::of_regions(&[("first", "US"), ("second", "US")], &law).await;
    let node = Setup::new("first", world.table()).start().await;
    (world, node)
}

fn assert_page(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_page_head(answer);
    assert!(answer.text().starts_with("<!doctype html>") && !answer.text().contains("%%"), "{}", answer.text());
}

fn assert_page_head(answer: &Answer) {
    assert_eq!(answer.header("content-type").as_deref(), Some("text/html; charset=utf-8"), "{answer:?}");
    assert_eq!(answer.header("vary").as_deref(), Some("accept"));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
}

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
