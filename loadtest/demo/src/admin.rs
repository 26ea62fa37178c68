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
pub(crate) struct Admin(pub(crate) SocketAddr);

/// The answer of `/explain`, as far as the demo shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Explained {
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    pub(crate) order: Vec<String>,
    pub(crate) regions: Vec<RegionExplained>,
}

/// A region in an explanation.
#[derive(Debug, Deserialize)]
pub(crate) struct RegionExplained {
    pub(crate) name: String,
    pub(crate) allowed: bool,
    pub(crate) eligible: bool,
    pub(crate) level: Option<u16>,
    pub(crate) score: f32,
    pub(crate) why: Vec<Why>,
}

/// One thing that let a region in or kept it out.
#[derive(Debug, Deserialize)]
pub(crate) struct Why {
    pub(crate) rule: String,
    pub(crate) line: Option<u32>,
    pub(crate) effect: String,
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
pub(crate) struct NotUp {
    pub(crate) region: String,
    /// How far it has come back, in a word.
    pub(crate) state: String,
}

impl Admin {
    /// How the node would decide a GET of this path by this client now.
    pub(crate) async fn explain(&self, client: IpAddr, path: &str) -> anyhow::Result<Explained> {
        self.json(&format!("/explain?ip={client}&path={path}")).await
    }

    /// The regions that the node does not take for up.
    pub(crate) async fn not_up(&self) -> anyhow::Result<Vec<NotUp>> {
        let status: Status = self.json("/status").await?;
        let not_up = status.regions.into_iter().filter(|region| region.health != "up");
        let state = |region: &RegionStatus| match region.clients_percent {
            0 => "returning".to_owned(),
            percent => format!("at {percent} %"),
        };
        Ok(not_up.map(|region| NotUp { state: state(&region), region: region.name }).collect())
    }

    /// The sum of a counter's series that have a label in this form: `name="value"`, or anything.
    pub(crate) async fn counter(&self, name: &str, label: &str) -> anyhow::Result<u64> {
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
