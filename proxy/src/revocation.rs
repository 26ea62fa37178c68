//! Ends what is under way when a new table no longer lets its region serve it: requests that wait for
//! their answer, answers that stream, tunnels.
//!
//! Nothing is registered anywhere. Whatever is under way compares a counter whenever it moves, and at
//! least every [`LOOK`] while it rests; only when another table has come in force meanwhile is the law
//! asked again. What must end does so a random while later, so that a reload does not have all its
//! clients come back at once.

use std::time::{Duration, Instant};

use http::Uri;
use policy::{CurrentTable, Facts, Method, Payload, RegionId, Revoked};

use crate::clock;
use crate::request_context::RequestContext;
use crate::routing::{CurrentRouting, Routing, WorkerRouting};

/// How often what rests looks whether it may go on.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// The longest while after which what must end ends. With [`LOOK`] it stays below five seconds.
const LONGEST_DELAY: Duration = Duration::from_millis(2500);

/// Whether one thing under way may go on. It belongs to that thing, on its worker's thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RevocationCheck {
    /// The state of the node's table for which it was last answered: see [`CurrentRouting::law_state`].
    seen: u64,
    ending: Option<(Instant, Revoked)>,
}

impl RevocationCheck {
    /// May go on under the routing that it was decided under.
    pub(crate) fn new(pinned: &Routing) -> Self {
        // A table that was expired already has no say in what was decided all the same.
        Self { seen: pinned.generation << 1, ending: None }
    }

    /// Returns why it must end now, if it must. `ask` says whether a routing revokes it.
    pub(crate) fn look(
        &mut self,
        routing: &CurrentRouting,
        ask: impl FnOnce(&Routing) -> Option<Revoked>,
    ) -> Option<Revoked> {
        let state = routing.law_state();
        if state != self.seen {
            self.seen = state;
            self.ending = match (self.ending, ask(&routing.load())) {
                // What was to end already does not wait anew.
                (Some((at, _)), Some(why)) => Some((at, why)),
                (None, Some(why)) => Some((clock::now() + LONGEST_DELAY.mul_f64(fastrand::f64()), why)),
                (_, None) => None,
            };
        }
        self.ending.filter(|(at, _)| *at <= clock::now()).map(|(_, why)| why)
    }

    /// Returns when to look again at the latest.
    pub(crate) fn next_look(&self) -> Instant {
        let look = clock::now() + LOOK;
        self.ending.map_or(look, |(at, _)| look.min(at))
    }

    /// Returns when it ends, if it must.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        self.ending.map(|(at, _)| at)
    }
}

/// What a region was permitted to serve: all that it takes to ask another table. It lives as long as the answer, the
/// upload or the tunnel that it is about, on their worker's thread.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The routing that it was decided under.
    pub(crate) pinned: WorkerRouting,
    /// The region that serves, in its ids.
    pub(crate) region: RegionId,
    /// The host asked for, as [`crate::target`] has it.
    pub(crate) host: String,
    /// The target, whose path is read again.
    pub(crate) uri: Uri,
    /// The method.
    pub(crate) method: Method,
    /// What the client sends after the head.
    pub(crate) payload: Payload,
    /// What else the decision knew.
    pub(crate) context: RequestContext,
    /// The hash of the client's identity.
    pub(crate) client_key: u64,
    /// Whether another node had chosen the region.
    pub(crate) from_a_node: bool,
}

impl Grant {
    /// Returns why a routing revokes it, if it does.
    pub(crate) fn revoked(&self, current: &Routing) -> Option<Revoked> {
        let Self { pinned, region, context, .. } = self;
        // It was read once before, in the same way.
        let Ok(path) = policy::path::canonical(self.uri.path()) else { return Some(Revoked::Removed) };
        let facts = Facts {
            host: &self.host,
            path: &path.path,
            method: self.method,
            payload: self.payload,
            origin: context.origin,
            declared: &context.declared,
            consent: context.consent,
            client_at: None,
            client_key: self.client_key,
            from: pinned.here,
            pinned: if self.from_a_node { Some(pinned.here) } else { context.pinned },
            only: self.from_a_node.then_some(pinned.here),
            criticality: None,
        };
        revoked(pinned, &facts, *region, current)
    }
}

/// Returns why a routing revokes what another permitted to one of its regions.
pub(crate) fn revoked(pinned: &Routing, facts: &Facts<'_>, region: RegionId, current: &Routing) -> Option<Revoked> {
    policy::attempt::revoked(pinned.table(), facts, region, &CurrentTable { table: current.table(), view: current })
}
