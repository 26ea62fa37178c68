//! Asks the ingress about itself, at its admin address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The admin address of a node.
pub(super) struct Admin(pub(super) SocketAddr);

/// The answer of `/explain`, as far as the demo shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Explained {
    pub(super) status: u16,
    pub(super) reason: Option<String>,
    pub(super) order: Vec<String>,
    pub(super) regions: Vec<RegionExplained>,
}

/// A region in an explanation.
#[derive(Debug, Deserialize)]
pub(super) struct RegionExplained {
    pub(super) name: String,
    pub(super) allowed: bool,
    pub(super) eligible: bool,
    pub(super) level: Option<u16>,
    pub(super) score: f32,
    pub(super) why: Vec<Why>,
}

/// One thing that let a region in or kept it out.
#[derive(Debug, Deserialize)]
pub(super) struct Why {
    pub(super) rule: String,
    pub(super) line: Option<u32>,
    pub(super) effect: String,
}

#[derive(Deserialize)]
struct Status {
    regions: Vec<RegionStatus>,
}

#[derive(Deserialize)]
struct RegionStatus {
    name: String,
    health: String,
    clients_percent: u8,
}

/// A region that the node does not take for up.
#[derive(Clone, Debug)]
pub(super) struct NotUp {
    pub(super) region: String,
    /// How far it has come back, in a word.
    pub(super) state: String,
}

impl Admin {
    /// How the node would decide a GET of this path by this client now.
    pub(super) async fn explain(&self, client: IpAddr, path: &str) -> anyhow::Result<Explained> {
        self.json(&format!("/explain?ip={client}&path={path}")).await
    }

    /// The regions that the node does not take for up.
    pub(super) async fn not_up(&self) -> anyhow::Result<Vec<NotUp>> {
        let status: Status = self.json("/status").await?;
        let not_up = status.regions.into_iter().filter(|region| region.health != "up");
        let state = |region: &RegionStatus| match region.clients_percent {
            0 => "returning".to_owned(),
            percent => format!("at {percent} %"),
        };
        Ok(not_up.map(|region| NotUp { state: state(&region), region: region.name }).collect())
    }

    /// The sum of a counter's series that have a label in this form: `name="value"`, or anything.
    pub(super) async fn counter(&self, name: &str, label: &str) -> anyhow::Result<u64> {
        let text = self.get("/metrics").await?;
        let text = std::str::from_utf8(&text)?;
        let series = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = self.get(path).await?;
        serde_json::from_slice(&body).with_context(|| format!("the ingress's answer to {path} is not as expected"))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        let asked = tokio::time::timeout(PATIENCE, self.ask(path)).await;
        asked.map_err(anyhow::Error::from).flatten().with_context(|| format!("asking the ingress for {path}"))
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Bytes> {
        let stream = tokio::net::TcpStream::connect(self.0).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = http::Request::get(path).header("host", self.0.to_string()).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "it answers {}", response.status());
        Ok(response.into_body().collect().await?.to_bytes())
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
