//! `meridian explain`

mod page;
mod text;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use config::{NodeConfig, RoutingTable};
use http_body_util::BodyExt;
use policy::explain::schema;
use policy::{Explanation, Health, Moment, Payload, RegionId, RegionView, Table};

use super::what_if::{assignment, region};
use super::{Failed, Format, print};
use crate::client::{Client, Geo};
use crate::explain::{Question, answer, coordinates, header};
use crate::prepare;
use crate::request_context::TrustSources;
use crate::routing::ClientOnMap;
use crate::token::Tokens;

/// Explain a decision.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The routing table to decide with
    #[arg(long, value_name = "FILE", required_unless_present_any = ["config", "admin", "schema"])]
    table: Option<PathBuf>,
    /// The region of the node that decides
    #[arg(long, value_name = "REGION", required_unless_present_any = ["config", "admin", "schema"])]
    from: Option<String>,
    /// A node file, whose table, region and geo databases are used
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// A running node's admin address, whose live view is used
    #[arg(long, value_name = "URL", conflicts_with_all = ["table", "from", "down", "load", "lag", "rtt"])]
    admin: Option<String>,
    /// The client's address
    #[arg(long)]
    ip: Option<IpAddr>,
    #[arg(long, default_value = "")]
    host: String,
    #[arg(long, default_value = "/")]
    path: String,
    #[arg(long, default_value = "GET")]
    method: String,
    /// Take the request as one that asks for a WebSocket
    #[arg(long)]
    upgrade: bool,
    /// Take the request as one with content
    #[arg(long, conflicts_with = "upgrade")]
    content: bool,
    /// A header, as from a trusted proxy
    #[arg(long = "header", value_name = "K:V")]
    headers: Vec<String>,
    /// The client's countries instead of a look-up
    #[arg(long, value_name = "CC,CC…|unknown")]
    country: Option<String>,
    /// Take consent as given, wherever the route looks for it
    #[arg(long)]
    consent: bool,
    /// The client's identity for the hash, instead of its address
    #[arg(long, value_name = "K")]
    client_key: Option<String>,
    /// Where the client is, instead of a look-up, for routes whose score goes by that
    #[arg(long, value_name = "LAT,LON", allow_hyphen_values = true)]
    coordinates: Option<String>,
    /// Take a region as down
    #[arg(long, value_name = "REGION")]
    down: Vec<String>,
    /// Take a region as loaded
    #[arg(long, value_name = "REGION=0.9")]
    load: Vec<String>,
    /// Take a region's replica as that many seconds behind
    #[arg(long, value_name = "REGION=SECONDS")]
    lag: Vec<String>,
    /// Take a region as that far away
    #[arg(long, value_name = "REGION=MS")]
    rtt: Vec<String>,
    /// Read the law as of that time: a date, which is 00:00 UTC, or a time with an offset; else now
    #[arg(long, value_name = "WHEN", conflicts_with = "admin")]
    at: Option<Moment>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print the JSON schema of `--format json`, and explain nothing
    #[arg(long, exclusive = true)]
    schema: bool,
}

impl Explain {
    pub(super) fn execute(self) -> Result<(), Failed> {
        if self.schema {
            return print_json(&schema());
        }
        let explanation = match &self.admin {
            Some(admin) => {
                let answered = ask(admin, &self.query())?;
                let parsed = serde_json::from_str(&answered).context("the node's answer is no explanation");
                parsed.map_err(Failed::Ran)?
            }
            None => self.explained()?,
        };
        match self.format {
            Format::Json => print_json(&explanation),
            Format::Text => {
                print(&text::text(&explanation));
                Ok(())
            }
        }
    }

    /// Returns the explanation from files.
    fn explained(&self) -> Result<Explanation, Failed> {
        let (document, from, geo, tokens) = self.subject()?;
        let table = &document.table;
        let from = region(table, &from).map_err(input)?;
        let view = self.view(table)?;
        let trust = TrustSources { geo: &geo, tokens: &tokens, verifications: None };
        let ways =
            |id, client: &Client| client.coordinates.filter(|_| table.is_by_client(id)).map(ClientOnMap::unmeasured);
        answer(&self.question()?, &document, from, view.as_slice(), trust, ways).map_err(input)
    }

    /// Returns the table, the deciding region's name, the databases and the token keys, from either kind of file.
    fn subject(&self) -> Result<(RoutingTable, String, Geo, Tokens), Failed> {
        let at = self.at.unwrap_or_else(crate::clock::wall);
        match (&self.config, &self.table) {
            (Some(file), table) => {
                let config = NodeConfig::load(file)?;
                let (geo, tokens) = (prepare::geo(&config)?, prepare::tokens(&config)?);
                let table = match (table, &config.routing) {
                    (Some(table), _) => table.clone(),
                    (None, config::Routing::File(table)) => table.clone(),
                    // What the node would start with without its bus.
                    (None, config::Routing::Bus(source)) => {
                        source.snapshot.clone().filter(|snapshot| snapshot.exists()).ok_or_else(|| {
                            let file = file.display();
                            input(anyhow!("{file}: the table is on a bus, and there is no snapshot of it here: name one with --table, or ask a running node with --admin"))
                        })?
                    }
                };
                let from = self.from.clone().unwrap_or(config.region);
                Ok((RoutingTable::load(&table, at)?, from, geo, tokens))
            }
            (None, Some(table)) => {
                let from = self.from.clone().ok_or_else(|| input(anyhow!("--table needs --from REGION")))?;
                Ok((RoutingTable::load(table, at)?, from, Geo::default(), Tokens::default()))
            }
            (None, None) => Err(input(anyhow!("name a --table with --from, a --config, or an --admin URL"))),
        }
    }

    fn question(&self) -> Result<Question, Failed> {
        Ok(Question {
            ip: self.ip,
            host: self.host.clone(),
            path: self.path.clone(),
            method: Some(self.method.clone()),
            payload: match (self.upgrade, self.content) {
                (true, _) => Payload::Tunnel,
                (false, true) => Payload::Content,
                (false, false) => Payload::Nothing,
            },
            headers: self.headers.iter().map(|text| header(text)).collect::<Result<_, _>>().map_err(input)?,
            country: self.country.clone(),
            consent: self.consent,
            client_key: self.client_key.clone(),
            coordinates: self.coordinates.as_deref().map(coordinates).transpose().map_err(input)?,
        })
    }

    /// Returns the view that `--down`, `--load`, `--lag` and `--rtt` describe.
    fn view(&self, table: &Table) -> Result<Vec<RegionView>, Failed> {
        let mut view = vec![RegionView::default(); table.spec().regions.len()];
        let mut change = |id: RegionId, change: &dyn Fn(&mut RegionView)| {
            view.get_mut(id.index()).into_iter().for_each(change);
        };
        for name in &self.down {
            change(region(table, name).map_err(input)?, &|seen| seen.health = Health::Down);
        }
        for text in &self.load {
            let (name, value) = assignment(text, "--load", "REGION=0.9").map_err(input)?;
            // A load that lasts: the overload mark sees it too.
            change(region(table, name).map_err(input)?, &|seen| (seen.utilisation, seen.pressure) = (value, value));
        }
        for text in &self.lag {
            let (name, value) = assignment(text, "--lag", "REGION=90").map_err(input)?;
            change(region(table, name).map_err(input)?, &|seen| seen.lag = Duration::try_from_secs_f32(value).ok());
        }
        for text in &self.rtt {
            let (name, value) = assignment(text, "--rtt", "REGION=80").map_err(input)?;
            change(region(table, name).map_err(input)?, &|seen| {
                (seen.rtt_ms, seen.reach_ms) = (Some(value), Some(value));
            });
        }
        Ok(view)
    }

    fn query(&self) -> String {
        let mut pairs = vec![("host", self.host.clone()), ("path", self.path.clone()), ("method", self.method.clone())];
        pairs.extend(self.ip.map(|ip| ("ip", ip.to_string())));
        pairs.extend(self.country.clone().map(|country| ("country", country)));
        pairs.extend(self.upgrade.then(|| ("upgrade", "websocket".to_owned())));
        pairs.extend(self.content.then(|| ("content", "true".to_owned())));
        pairs.extend(self.consent.then(|| ("consent", "granted".to_owned())));
        pairs.extend(self.coordinates.clone().map(|at| ("coordinates", at)));
        pairs.extend(self.client_key.clone().map(|key| ("client_key", key)));
        pairs.extend(self.headers.iter().map(|header| ("header", header.clone())));
        pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let json = serde_json::to_string_pretty(value).map_err(|error| Failed::Ran(error.into()))?;
    print(&format!("{json}\n"));
    Ok(())
}

fn input(error: impl Into<anyhow::Error>) -> Failed {
    Failed::Input(anyhow!("meridian explain: {:#}", error.into()))
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => all.push(char::from(byte)),
            byte => all.push_str(&format!("%{byte:02X}")),
        }
        all
    })
}

/// Asks a running node's `/explain`.
fn ask(admin: &str, query: &str) -> Result<String, Failed> {
    let authority = admin.strip_prefix("http://").unwrap_or(admin).trim_end_matches('/').to_owned();
    let asked = async {
        let stream = tokio::net::TcpStream::connect(&authority).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = http::Request::get(format!("/explain?{query}"))
            .header("host", &authority)
            .body(http_body_util::Empty::<bytes::Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, anyhow::Error>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failed::Ran(error.into()))?;
    let answered = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), asked).await });
    let context = || format!("no answer from the node at {admin}");
    let (status, body) =
        answered.with_context(context).and_then(|done| done.with_context(context)).map_err(Failed::Ran)?;
    match status.as_u16() {
        200 => Ok(body),
        400 => Err(input(anyhow!("{}", body.trim()))),
        other => Err(Failed::Ran(anyhow!("the node at {admin} answered {other}: {}", body.trim()))),
    }
}
