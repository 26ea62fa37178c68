//! What one node says that it sends to one region.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Reported;
use crate::client_way::MOST_EXCESS_MS;
use crate::country::Country;
use crate::round_trip::MOST_MS;

/// A node's report on one region. Which region is not in it: it is the address that it is sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Said")]
pub struct LoadReport {
    /// The node's name, 1 to 64 printable ASCII letters.
    pub node: String,
    /// The region that the node is in, likewise.
    pub region: String,
    /// Its requests under way there.
    pub requests_in_flight: u32,
    /// The most that it would have under way there; at least 1.
    pub cap: u32,
    /// The requests per second that it has sent there since its last report.
    pub rps: f64,
    /// What the region's endpoints say of their own utilisation, as the node hears it; 0 when they say nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub origin_load: f32,
    /// The round trips that the node measures from its region, in milliseconds, by the name of the region that they go
    /// to: at most [`LoadReport::MOST_ROUND_TRIPS`], others with the next reports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub round_trips: BTreeMap<String, f32>,
    /// By how many milliseconds the ways of clients to the node are longer than is assumed of their distance, by their country:
    /// at most [`LoadReport::MOST_COUNTRIES`], others with the next reports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client_excess_ms: BTreeMap<Country, f32>,
}

/// Why a text is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadReport {
    #[error("a name is not of 1 to {} printable ASCII letters", LoadReport::MAX_NAME)]
    Name,
    #[error("the cap is 0")]
    Cap,
    #[error("rps is not between 0 and {}", LoadReport::MAX_RPS)]
    Rps,
    #[error("origin_load is not between 0 and {}", Reported::MOST)]
    OriginLoad,
    #[error("more than {} round trips, or one that is not between 0 and {MOST_MS} ms", LoadReport::MOST_ROUND_TRIPS)]
    RoundTrips,
    #[error(
        "the excess of more than {} countries, or one that is not between -{MOST_EXCESS_MS} and {MOST_EXCESS_MS} ms",
        LoadReport::MOST_COUNTRIES
    )]
    ClientExcess,
}

impl LoadReport {
    /// The length of a name in bytes, at most; that of the configuration.
    pub(crate) const MAX_NAME: usize = 64;

    /// More requests per second than this no node sends anywhere.
    pub const MAX_RPS: f64 = 1e9;

    /// Round trips in one report, at most: a report is sent each second, and they change slowly.
    pub const MOST_ROUND_TRIPS: usize = 8;

    /// Countries in one report, at most: likewise.
    pub const MOST_COUNTRIES: usize = 8;

    /// Returns whether a node reports on a region: on its own always, on any other from its first request there until
    /// the others have forgotten the last. `busy` is when requests were last there.
    pub fn is_due(is_own_region: bool, busy: Option<Duration>, now: Duration) -> bool {
        is_own_region || busy.is_some_and(|last| now.saturating_sub(last) < Reported::GONE)
    }
}

/// A report as it is read, before it is known to be one. What else is said is for later versions.
#[derive(Deserialize)]
struct Said {
    node: String,
    region: String,
    requests_in_flight: u32,
    cap: u32,
    rps: f64,
    #[serde(default)]
    origin_load: f32,
    #[serde(default)]
    round_trips: BTreeMap<String, f32>,
    #[serde(default)]
    client_excess_ms: BTreeMap<String, f32>,
}

impl TryFrom<Said> for LoadReport {
    type Error = BadReport;

    fn try_from(said: Said) -> Result<Self, BadReport> {
        let Said { node, region, requests_in_flight, cap, rps, origin_load, round_trips, client_excess_ms } = said;
        let is_name = |name: &str| {
            (1..=LoadReport::MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !is_name(&node) || !is_name(&region) {
            return Err(BadReport::Name);
        }
        if cap == 0 {
            return Err(BadReport::Cap);
        }
        // Not a number is in no range.
        if !(0.0..=LoadReport::MAX_RPS).contains(&rps) {
            return Err(BadReport::Rps);
        }
        let are_round_trips = round_trips.len() <= LoadReport::MOST_ROUND_TRIPS
            && round_trips.iter().all(|(to, ms)| is_name(to) && (0.0..=MOST_MS).contains(ms));
        if !are_round_trips {
            return Err(BadReport::RoundTrips);
        }
        let is_excess = |ms: &f32| (-MOST_EXCESS_MS..=MOST_EXCESS_MS).contains(ms);
        if client_excess_ms.len() > LoadReport::MOST_COUNTRIES || !client_excess_ms.values().all(is_excess) {
            return Err(BadReport::ClientExcess);
        }
        // A later version may know more countries.
        let known = client_excess_ms.into_iter().filter_map(|(code, ms)| Some((code.parse().ok()?, ms)));
        let client_excess_ms = known.collect();
        if !(0.0..=Reported::MOST).contains(&origin_load) {
            return Err(BadReport::OriginLoad);
        }
        Ok(Self { node, region, requests_in_flight, cap, rps, origin_load, round_trips, client_excess_ms })
    }
}

fn is_zero(load: &f32) -> bool {
    *load == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_region_is_reported_on_until_the_others_have_forgotten_it() {
        let at = Duration::from_secs;
        for (is_own, busy, now, is_due) in [
            (true, None, 100, true),
            (false, None, 100, false),
            (false, Some(100), 100, true),
            (false, Some(100), 119, true),
            (false, Some(100), 120, false),
        ] {
            assert_eq!(LoadReport::is_due(is_own, busy.map(at), at(now)), is_due, "{is_own} {busy:?} {now}");
        }
    }

    fn good() -> Value {
        json!({ "node": "use1-a", "region": "us-east-1", "requests_in_flight": 3, "cap": 10_000, "rps": 120.5 })
    }

    #[test]
    fn a_report_is_read_as_it_is_written() {
        let report: LoadReport = serde_json::from_value(good()).expect("a report");
        assert_eq!(serde_json::to_value(&report).expect("JSON"), good());
        let mut later = good();
        assert_eq!(report.round_trips.len(), 0);
        later["load_average"] = json!(7);
        assert_eq!(serde_json::from_value::<LoadReport>(later).expect("a later version's"), report);
    }

    #[test]
    fn what_is_out_of_bounds_is_none() {
        for (field, value) in [
            ("node", json!("")),
            ("node", json!("n".repeat(65))),
            ("node", json!("a b")),
            ("node", json!("a\u{e9}")),
            ("node", json!(null)),
            ("region", json!("")),
            ("region", json!("a\nb")),
            ("requests_in_flight", json!(-1)),
            ("requests_in_flight", json!(1.5)),
            ("requests_in_flight", json!(1_u64 << 32)),
            ("cap", json!(0)),
            ("cap", json!(-5)),
            ("rps", json!(-0.1)),
            ("rps", json!(1e10)),
            ("rps", json!("1")),
            ("origin_load", json!(-0.1)),
            ("origin_load", json!(10.5)),
            ("round_trips", json!({ "a b": 1.0 })),
            ("round_trips", json!({ "b": -0.1 })),
            ("round_trips", json!({ "b": 60_001 })),
            ("client_excess_ms", json!({ "DE": 301.0 })),
            ("client_excess_ms", json!({ "DE": null })),
            ("client_excess_ms", json!((0..9).map(|n| (n.to_string(), 1.0)).collect::<BTreeMap<_, _>>())),
            ("round_trips", json!((0..9).map(|n| (n.to_string(), 1.0)).collect::<BTreeMap<_, _>>())),
        ] {
            let mut said = good();
            said[field] = value;
            assert!(serde_json::from_value::<LoadReport>(said.clone()).is_err(), "{said}");
        }
        for text in ["", "null", "[]", "{}", r#"{"rps": NaN}"#, r#"{"rps": 1e999}"#, "\u{0}"] {
            assert!(serde_json::from_str::<LoadReport>(text).is_err(), "{text}");
        }
        let said = |rps| Said {
            node: "n".into(),
            region: "r".into(),
            requests_in_flight: 0,
            cap: 1,
            rps,
            origin_load: 0.0,
            round_trips: BTreeMap::new(),
            client_excess_ms: BTreeMap::new(),
        };
        for rps in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(LoadReport::try_from(said(rps)), Err(BadReport::Rps));
        }
    }
}
