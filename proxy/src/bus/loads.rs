//! Exchanges load reports over the bus: plain messages, which the bus does not store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use policy::health::{HeardLag, Holder};
use tokio::time::{MissedTickBehavior, interval};

use crate::bus_state::BusState;
use crate::clock;
use crate::health::region::WriterState;
use crate::load::meter::LoadMeter;
use crate::load::{LagTold, LoadReports, SUBJECTS, WriterWord, receive, subject};
use crate::node::Node;
use crate::peers::identity;
use crate::peers::messages::{CERTIFICATES, MessageProof, MessageVerifier, SECRET_SIGNATURE, SIGNATURE};
use crate::routing::{Region, Routing};

/// Sends this node's load each second and receives the others', until the future is dropped or the
/// connection ends. `meter` outlives connections: it counts from one second to the next. Only nodes
/// that report on the bus, from the region that they name, are accepted.
pub(super) async fn exchange(
    node: Arc<Node>,
    state: Arc<BusState>,
    client: async_nats::Client,
    meter: Rc<RefCell<LoadMeter>>,
) {
    let mut messages = match client.subscribe(SUBJECTS).await {
        Ok(messages) => messages,
        Err(error) => {
            tracing::warn!(%error, "cannot subscribe to the other nodes' load reports");
            return;
        }
    };
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut liveness = LoadLiveness::default();
    let mut verifier = MessageVerifier::default();
    let mut sent = 0;
    loop {
        tokio::select! {
            _ = second.tick() => {
                if liveness.is_missing() && state.note("loads", Some(UNHEARD.to_owned())) {
                    tracing::warn!("{UNHEARD}");
                }
                if !liveness.may_send() {
                    continue;
                }
                let routing = node.routing.load_full();
                let peers = node.peers.load_full();
                let fault = peers.message_fault(&state.node);
                if state.note("load_signatures", fault.clone()) && let Some(fault) = fault {
                    tracing::warn!("{fault}");
                }
                let reports = meter.borrow_mut().reports(&state.node, &routing, clock::uptime()).into_iter().collect();
                let writers = writer_words(&routing, clock::uptime());
                let reports = LoadReports { at: clock::since_1970().as_millis() as u64, reports, writers };
                let Ok(payload) = serde_json::to_vec(&reports) else { continue };
                let subject = subject(&routing.table().region(routing.here).name);
                let proof = peers.sign_message(&[&state.bucket, &subject], &payload, sent);
                let headers = proof.map(in_headers).unwrap_or_default();
                sent += 1;
                // A report that is lost is followed by another.
                let _ = client.publish_with_headers(subject, headers, Bytes::from(payload)).await;
            }
            message = messages.next() => {
                let Some(message) = message else { return };
                let is_known = |name: &str, region: &str| {
                    state.members.is_in(name, region, clock::uptime()) && *message.subject == subject(region)
                };
                let is_its = |name: &str| {
                    let about = [state.bucket.as_str(), message.subject.as_str()];
                    let signed = (about.as_slice(), message.payload.as_ref());
                    verifier.verify(&node.peers.load_full(), name, signed, proof(&message).as_ref(), identity::now())
                };
                let routing = node.routing.load();
                let inbox = (&node.inbox, &**routing, &node.telemetry.metrics);
                if receive(inbox, &state.node, &message.payload, is_known, is_its) {
                    liveness.came();
                    state.note("loads", None);
                }
            }
        }
    }
}

/// Returns what this node says of each standby that takes writes over, and of its primary, at `now`, the uptime.
fn writer_words(routing: &Routing, now: Duration) -> BTreeMap<String, WriterWord> {
    let word = |cell: &Region| {
        // What a start could forget is not said.
        let WriterState { primary, writer, pair, .. } = cell.state.writer().filter(|state| state.is_kept)?;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let told = |HeardLag { of, lag }| LagTold {
            is_standby: of == Holder::Standby,
            behind_ms: millis(lag.behind),
            age_ms: millis(now.saturating_sub(lag.told)),
        };
        Some(WriterWord {
            primary,
            primary_lost: pair.primary.is_lost(),
            standby_lost: pair.standby.is_lost(),
            term: writer.term(),
            has_spoken: writer.has_spoken(),
            lag: writer.heard_lag().map(told),
        })
    };
    routing.regions().filter_map(|(_, region, cell)| Some((region.name.clone(), word(cell)?))).collect()
}

/// Writes what proves a message into its headers.
fn in_headers(proof: MessageProof) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE, proof.signature);
    proof.certificates.into_iter().for_each(|certificates| headers.insert(CERTIFICATES, certificates));
    proof.by_secret.into_iter().for_each(|signature| headers.insert(SECRET_SIGNATURE, signature));
    headers
}

/// Reads that from a message.
fn proof(message: &Message) -> Option<MessageProof> {
    let value = |name| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    Some(MessageProof {
        signature: value(SIGNATURE)?,
        certificates: value(CERTIFICATES),
        by_secret: value(SECRET_SIGNATURE),
    })
}

/// Tracks whether the node's own load reports come back. Where the bus does not let the node publish or
/// subscribe, it sends only now and then: the server refuses and logs each report. Lives as long as the
/// connection.
#[derive(Debug, Default)]
struct LoadLiveness {
    /// Seconds since the last own report came back.
    silent: u32,
}

impl LoadLiveness {
    /// Notes that a second has passed, and returns whether a report may be sent in this one.
    fn may_send(&mut self) -> bool {
        self.silent = self.silent.saturating_add(1);
        self.silent <= PATIENCE || self.silent.is_multiple_of(RETRY)
    }

    fn is_missing(&self) -> bool {
        self.silent >= PATIENCE
    }

    fn came(&mut self) {
        self.silent = 0;
    }
}

/// Seconds without an own report after which the exchange counts as broken: a few lost messages are no fault.
const PATIENCE: u32 = 5;

/// How often a report is sent then, in seconds: rarely, since the server logs each.
const RETRY: u32 = 60;

const UNHEARD: &str = "this node does not hear its own load reports: the bus stalls, or does not let it publish and \
                       subscribe to meridian.load.>; until then it knows of its own load only";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_own_reports_a_node_sends_once_a_minute() {
        let mut liveness = LoadLiveness::default();
        let sent: Vec<u32> = (1..=180).filter(|_| liveness.may_send()).collect();
        assert_eq!(sent, [1, 2, 3, 4, 5, 60, 120, 180]);
        assert!(liveness.is_missing());
        liveness.came();
        assert!(!liveness.is_missing() && liveness.may_send());
    }
}
