//! What a finding is about: requests, and the routes that they fall under.

use crate::region::Access;
use crate::route::{Method, Payload, RouteId};
use crate::table::TableSpec;

/// A request that falls under a route.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) route: RouteId,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) method: Method,
    pub(super) payload: Payload,
    pub(super) access: Access,
}

/// Some routes: the first few, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// The first of them.
    pub first: Vec<RouteId>,
    /// How many there are in all.
    pub count: usize,
}

/// Which of a route's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// All that it can have.
    All,
    /// Those that read, where others write.
    Reads,
    /// Those that write, where others read.
    Writes,
}

impl Routes {
    pub(super) fn new(routes: &[RouteId]) -> Self {
        Self { first: routes.iter().take(NAMED).copied().collect(), count: routes.len() }
    }

    /// Adds routes that are not among them.
    pub(super) fn add(&mut self, more: &[RouteId]) {
        self.first.extend(more);
        self.first.sort_unstable();
        self.first.truncate(NAMED);
        self.count += more.len();
    }

    /// Their names: `route a`, `routes a, b, c and 4 more`.
    pub fn describe(&self, spec: &TableSpec) -> String {
        let names: Vec<&str> = self.first.iter().map(|id| spec.routes[id.0 as usize].name.as_str()).collect();
        let names = names.join(", ");
        match (self.count, self.count - self.first.len()) {
            (1, _) => format!("route {names}"),
            (_, 0) => format!("routes {names}"),
            (_, more) => format!("routes {names} and {more} more"),
        }
    }
}

/// So many routes are named.
const NAMED: usize = 3;
