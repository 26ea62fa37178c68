//! The load reports' way over the bus: plain messages, which nobody keeps.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval};

use crate::bus_state::BusState;
use crate::clock;
use crate::load::meter::LoadMeter;
use crate::load::{SUBJECTS, receive, region_of, subject};
use crate::node::Node;

/// Tells the fleet of this node's load each second, and hears the others', until it is dropped or the
/// connection ends. `meter` outlives connections: it counts from one second to the next. Only nodes
/// that report on the bus, from the region that they name, are believed.
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
    let mut echo = Echo::default();
    loop {
        tokio::select! {
            _ = second.tick() => {
                if echo.is_missing() && state.note("loads", Some(UNHEARD.to_owned())) {
                    tracing::warn!("{UNHEARD}");
                }
                if !echo.may_speak() {
                    continue;
                }
                let reports = meter.borrow_mut().reports(&state.node, &node.routing.load(), clock::uptime());
                for (region, report) in reports {
                    let Ok(payload) = serde_json::to_vec(&report) else { continue };
                    // A report that is lost is followed by another.
                    let _ = client.publish(subject(&region), Bytes::from(payload)).await;
                }
            }
            message = heard.next() => {
                let Some(message) = message else { return };
                let Some(region) = region_of(&message.subject) else { continue };
                let is_known = |name: &str, region: &str| {
                    if name == state.node {
                        echo.came();
                        state.note("loads", None);
                    }
                    state.members.is_in(name, region, clock::uptime())
                };
                let routing = node.routing.load();
                receive((&node.inbox, &routing, &node.telemetry.metrics), region, &message.payload, is_known);
            }
        }
    }
}

/// The node's own load reports, as they come back. Where the bus does not let it say or hear them, it
/// says so once, and tries again now and then: the server refuses each one, and each refusal is logged.
#[derive(Debug, Default)]
struct Echo {
    /// Seconds since one came.
    silent: u32,
}

impl Echo {
    /// Notes that a second has passed, and returns whether a report may be sent in this one.
    fn may_speak(&mut self) -> bool {
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

/// Seconds without an echo after which there is none.
const PATIENCE: u32 = 5;

/// Then one second in so many has a report.
const RETRY: u32 = 60;

const UNHEARD: &str = "this node does not hear its own load reports: the bus stalls, or does not let it publish and \
                       subscribe to meridian.load.>; until then it knows of its own load only";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_heard_speaks_once_a_minute_until_it_is() {
        let mut echo = Echo::default();
        let spoken: Vec<u32> = (1..=180).filter(|_| echo.may_speak()).collect();
        assert_eq!(spoken, [1, 2, 3, 4, 5, 60, 120, 180]);
        assert!(echo.is_missing());
        echo.came();
        assert!(!echo.is_missing() && echo.may_speak());
    }
}
