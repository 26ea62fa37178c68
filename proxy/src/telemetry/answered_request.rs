//! Counts answered requests, without a lock: each thread keeps the series that it counts in.

use std::cell::RefCell;
use std::time::Duration;

use policy::{Method, Origin, RegionId, RouteId, Table};
use prometheus::{Histogram, IntCounter};
use rustc_hash::FxHashMap;

use crate::grpc::CallEnd;
use crate::telemetry::metrics::Metrics;

/// What an answer is counted under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnsweredRequest<'a> {
    /// The table's generation on this node, and the table: ids are of it.
    pub(crate) generation: u64,
    /// The table of the ids.
    pub(crate) table: &'a Table,
    /// The route, unless none matched.
    pub(crate) route: Option<RouteId>,
    /// The region that served, unless Meridian answered itself.
    pub(crate) region: Option<RegionId>,
    /// The region of this node.
    pub(crate) here: RegionId,
    /// The request's method.
    pub(crate) method: Method,
    /// The answer's status.
    pub(crate) status: u16,
    /// Whose rules held.
    pub(crate) jurisdiction: JurisdictionLabel,
    /// `forward`, or the reason of our own answer.
    pub(crate) outcome: &'static str,
    /// How it ended, of a gRPC call.
    pub(crate) call_end: Option<CallEnd>,
}

impl AnsweredRequest<'_> {
    /// Counts the answer in a worker's metrics: how long it took to its end, and to its head. The handles are kept per
    /// thread, so that the hot path takes no lock.
    pub(crate) fn count(&self, metrics: &Metrics, took: Duration, head: Duration) {
        with_handles(metrics, self, |handles| {
            handles.requests.inc();
            handles.duration.observe(took.as_secs_f64());
            handles.head.observe(head.as_secs_f64());
            handles.decisions.inc();
            if let Some(calls) = &handles.calls {
                calls.inc();
            }
            if let Some(attempts) = &handles.attempts {
                attempts.inc();
            }
        });
    }

    /// Counts bytes of the answer's body that have come from another region.
    pub(crate) fn count_bytes(&self, metrics: &Metrics, bytes: u64) {
        if bytes > 0 && self.region.is_some_and(|region| region != self.here) {
            // Its reason may be another by now, under which nothing was counted.
            with_handles(metrics, &Self { outcome: "forward", ..*self }, |handles| {
                if let Some(total) = &handles.cross_region_bytes {
                    total.inc_by(bytes);
                }
            });
        }
    }
}

/// The jurisdiction that a decision is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JurisdictionLabel {
    /// The client's country is in this one.
    One(usize),
    /// It is in several, or the client may be in several countries.
    Several,
    /// It is in none.
    None,
    /// The client may be anywhere.
    Unknown,
}

impl JurisdictionLabel {
    /// Returns the label of an origin.
    pub(crate) fn of(origin: &Origin, table: &Table) -> Self {
        match origin {
            Origin::Unknown => JurisdictionLabel::Unknown,
            Origin::Countries(_) => JurisdictionLabel::Several,
            Origin::Country(country) => match table.residency().jurisdictions(*country) {
                [] => JurisdictionLabel::None,
                [one] => JurisdictionLabel::One(one.0),
                _ => JurisdictionLabel::Several,
            },
        }
    }

    fn name(self, table: &Table) -> &str {
        match self {
            JurisdictionLabel::One(index) => table.spec().jurisdictions.get(index).map_or("none", |j| j.name.as_str()),
            JurisdictionLabel::Several => "several",
            JurisdictionLabel::None => "none",
            JurisdictionLabel::Unknown => "unknown",
        }
    }
}

struct Handles {
    requests: IntCounter,
    duration: Histogram,
    head: Histogram,
    decisions: IntCounter,
    /// The calls that ended likewise.
    calls: Option<IntCounter>,
    /// The attempt that an origin's answer comes from.
    attempts: Option<IntCounter>,
    /// The bytes of its answer, where that is another region's.
    cross_region_bytes: Option<IntCounter>,
}

type Key =
    (u64, Option<RouteId>, Option<RegionId>, Method, &'static str, JurisdictionLabel, &'static str, Option<CallEnd>);

thread_local! {
    static HANDLES: RefCell<FxHashMap<Key, Handles>> = RefCell::new(FxHashMap::default());
}

/// Returns the label of a status. Of those that are not registered (RFC 9110, 15) an origin may make up as many as it likes:
/// of these it says the class only.
fn status_label(status: u16) -> &'static str {
    const REGISTERED: &[(u16, &str)] = &[
        (100, "100"),
        (101, "101"),
        (102, "102"),
        (103, "103"),
        (200, "200"),
        (201, "201"),
        (202, "202"),
        (203, "203"),
        (204, "204"),
        (205, "205"),
        (206, "206"),
        (207, "207"),
        (208, "208"),
        (226, "226"),
        (300, "300"),
        (301, "301"),
        (302, "302"),
        (303, "303"),
        (304, "304"),
        (305, "305"),
        (307, "307"),
        (308, "308"),
        (400, "400"),
        (401, "401"),
        (402, "402"),
        (403, "403"),
        (404, "404"),
        (405, "405"),
        (406, "406"),
        (407, "407"),
        (408, "408"),
        (409, "409"),
        (410, "410"),
        (411, "411"),
        (412, "412"),
        (413, "413"),
        (414, "414"),
        (415, "415"),
        (416, "416"),
        (417, "417"),
        (418, "418"),
        (421, "421"),
        (422, "422"),
        (423, "423"),
        (424, "424"),
        (425, "425"),
        (426, "426"),
        (428, "428"),
        (429, "429"),
        (431, "431"),
        (451, "451"),
        (499, "499"),
        (500, "500"),
        (501, "501"),
        (502, "502"),
        (503, "503"),
        (504, "504"),
        (505, "505"),
        (506, "506"),
        (507, "507"),
        (508, "508"),
        (510, "510"),
        (511, "511"),
    ];
    match REGISTERED.binary_search_by_key(&status, |(number, _)| *number) {
        Ok(at) => REGISTERED.get(at).map_or("", |(_, label)| label),
        Err(_) => match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        },
    }
}

/// More distinct answers than this in one thread start its handles afresh.
const MAX_HANDLES: usize = 4096;

fn with_handles(metrics: &Metrics, answer: &AnsweredRequest<'_>, count: impl FnOnce(&Handles)) {
    let AnsweredRequest { generation, table, route, region, here, method, jurisdiction, .. } = *answer;
    let status = status_label(answer.status);
    let (outcome, call_end) = (answer.outcome, answer.call_end);
    let key = (generation, route, region, method, status, jurisdiction, outcome, call_end);
    HANDLES.with_borrow_mut(|known| {
        if known.len() > MAX_HANDLES {
            known.clear();
        }
        let handles = known.entry(key).or_insert_with(|| {
            let served = region.is_some();
            let elsewhere = region.filter(|region| *region != here).map(|region| {
                let names = [here, region].map(|id| table.region(id).name.as_str());
                metrics.cross_region_bytes.with_label_values(&names)
            });
            let region = region.map_or("", |id| table.region(id).name.as_str());
            let route = route.map_or("none", |id| table.route(id).spec.name.as_str());
            Handles {
                requests: metrics.requests.with_label_values(&[region, route, method.name(), status]),
                duration: metrics.duration.with_label_values(&[region, route]),
                head: metrics.head.with_label_values(&[region, route]),
                calls: call_end.map(|end| metrics.grpc_requests.with_label_values(&[region, route, end.label()])),
                decisions: metrics.decisions.with_label_values(&[jurisdiction.name(table), outcome]),
                cross_region_bytes: elsewhere,
                attempts: served.then(|| metrics.attempts.with_label_values(&[region, "answered"])),
            }
        });
        count(handles);
    });
}
