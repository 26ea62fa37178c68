//! The load reports' way over the bus: plain messages, which nobody keeps.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval};

use super::status::BusState;
use crate::load::meter::LoadMeter;
use crate::load::{SUBJECTS, receive, region_of, subject};
use crate::node::Node;
use crate::routing::now;

/// Tells the fleet of this node's load each second, and hears the others', until it is dropped or the
/// connection ends. `meter` outlives connections: it counts from one second to the next. Only nodes that report on the bus, from the region that they name, are believed.
pub(super) async fn exchange(
    node: Arc<Node>,
    state: Arc<BusState>,
    client: async_nats::Client,
    meter: Rc<RefCell<LoadMeter>>,
) {
    let mut heard = match client.subscribe(SUBJECTS).await {
        Ok(heard) => heard,
        Err(error) => {
            tracing::warn!(%error, "the other nodes' load reports are not heard");
            return;
        }
    };
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = second.tick() => {
                let reports = meter.borrow_mut().reports(&state.node, &node.routing.load(), now());
                for (region, report) in reports {
                    let Ok(payload) = serde_json::to_vec(&report) else { continue };
                    // A report that is lost is followed by another.
                    let _ = client.publish(subject(&region), Bytes::from(payload)).await;
                }
            }
            message = heard.next() => {
                let Some(message) = message else { return };
                let Some(region) = region_of(&message.subject) else { continue };
                let is_known = |name: &str, region: &str| state.peers.is_in(name, region, now());
                receive(&node, region, &message.payload, is_known);
            }
        }
    }
}
