//! What an origin says of its own load in an answer: ORCA's per-request reports (`xds.data.orca.v3.OrcaLoadReport`), as
//! Envoy and gRPC read them.
//!
//! | Field of the head, or of the trailers | Form |
//! |---|---|
//! | `endpoint-load-metrics: TEXT cpu_utilization=0.3, named_metrics.queue=4` | names and numbers; `:` for `=` will do, and so will no `TEXT` |
//! | `endpoint-load-metrics: JSON {"cpu_utilization": 0.3}` | protobuf's JSON; also in `endpoint-load-metrics-json` without the word |
//! | `endpoint-load-metrics: BIN …` | base64 of the message; also in `endpoint-load-metrics-bin` without the word |
//!
//! Of all that only the utilisation is used: the application's own, or the processor's where it says none (gRPC A114).

use data_encoding::BASE64_NOPAD;
use http::{HeaderMap, HeaderName};
use serde::Deserialize;

/// What one endpoint can say at most: full, and half as much waiting. One that takes percent for shares must not speak for
/// its whole region.
const MOST: f64 = 1.5;

/// What all names of such fields begin with.
const PREFIX: &str = "endpoint-load-metrics";

/// Returns whether a field is an origin's word on its load. It is for the nodes: clients have no use for it.
pub(crate) fn is_of_load(name: &HeaderName) -> bool {
    matches!(name.as_str().strip_prefix(PREFIX), Some("" | "-bin" | "-json"))
}

/// Returns the utilisation that an origin reports, 0 idle and 1 full; `None` where it reports none, or nothing that can
/// be read. A report is a hint: a bad one is no fault of its answer's.
pub(crate) fn reported(fields: &HeaderMap) -> Option<f32> {
    let value = |name: &str| fields.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let report = if let Some(text) = value(PREFIX) {
        match text.split_once(' ').map(|(form, rest)| (form, rest.trim())) {
            Some(("JSON", json)) => of_json(json),
            Some(("BIN", base64)) => of_base64(base64),
            Some(("TEXT", text)) => of_text(text),
            _ => of_text(text),
        }
    } else if let Some(base64) = value("endpoint-load-metrics-bin") {
        of_base64(base64)
    } else {
        of_json(value("endpoint-load-metrics-json")?)
    };
    report?.utilisation()
}

/// What is read of a report. What else is in it is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct OrcaReport {
    #[serde(alias = "applicationUtilization")]
    application_utilization: f64,
    #[serde(alias = "cpuUtilization")]
    cpu_utilization: f64,
}

impl OrcaReport {
    /// Zero is what is not set, in protobuf's third version.
    fn utilisation(self) -> Option<f32> {
        let said = if self.application_utilization > 0.0 { self.application_utilization } else { self.cpu_utilization };
        (said.is_finite() && said > 0.0).then(|| said.min(MOST) as f32)
    }
}

fn of_json(json: &str) -> Option<OrcaReport> {
    // serde would take a list for the fields in their order.
    json.starts_with('{').then(|| serde_json::from_str(json).ok())?
}

fn of_text(text: &str) -> Option<OrcaReport> {
    let mut report = OrcaReport::default();
    for metric in text.split(',') {
        let (name, value) = metric.split_once(['=', ':'])?;
        let value = value.trim().parse().ok()?;
        match name.trim() {
            "application_utilization" => report.application_utilization = value,
            "cpu_utilization" => report.cpu_utilization = value,
            _ => {}
        }
    }
    Some(report)
}

fn of_base64(text: &str) -> Option<OrcaReport> {
    // gRPC leaves the padding out of its binary fields, and others do not.
    of_message(&BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok()?)
}

/// Reads the two numbers of a protobuf message, and passes over what else there is (protobuf's encoding: a tag of a
/// field's number and the form of its value, and the value).
fn of_message(mut message: &[u8]) -> Option<OrcaReport> {
    let mut report = OrcaReport::default();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => drop(varint(&mut message)?),
            1 => {
                let value = f64::from_le_bytes(*message.split_off(..8)?.first_chunk()?);
                match tag >> 3 {
                    1 => report.cpu_utilization = value,
                    9 => report.application_utilization = value,
                    _ => {}
                }
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message.split_off(..length)?;
            }
            5 => drop(message.split_off(..4)?),
            _ => return None,
        }
    }
    Some(report)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let byte = *message.split_off_first()?;
        number |= u64::from(byte & 0x7f) << (7 * place).min(63);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &str) -> Option<f32> {
        reported(&HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]))
    }

    #[test]
    fn every_form_is_read() {
        for (value, utilisation) in [
            ("TEXT cpu_utilization=0.3, mem_utilization=0.9", Some(0.3)),
            ("TEXT cpu_utilization:0.3,application_utilization:0.5", Some(0.5)),
            ("cpu_utilization=1.5, named_metrics.kv=4", Some(1.5)),
            ("TEXT named_metrics.cpu_utilization=0.3", None),
            ("TEXT cpu_utilization=35", Some(1.5)),
            ("JSON {\"cpu_utilization\": 0.25, \"named_metrics\": {\"a\": 1}}", Some(0.25)),
            ("JSON {\"cpuUtilization\": 0.25, \"applicationUtilization\": 0.75, \"eps\": 1}", Some(0.75)),
            // cpu_utilization 0.5, rps 7, named_metrics {"a": 1}, application_utilization 0.25
            ("BIN CQAAAAAAAOA/GAdCDAoBYREAAAAAAADwP0kAAAAAAADQPw==", Some(0.25)),
            ("BIN CQAAAAAAAOA/", Some(0.5)),
            ("BIN CQAAAAAAAOA", None),
            ("TEXT cpu_utilization", None),
            ("TEXT cpu_utilization=lots", None),
            ("TEXT cpu_utilization=NaN", None),
            ("TEXT cpu_utilization=inf", None),
            ("TEXT cpu_utilization=-1", None),
            ("TEXT cpu_utilization=0", None),
            ("JSON [1]", None),
            ("JSON", None),
            ("", None),
        ] {
            assert_eq!(of("endpoint-load-metrics", value), utilisation, "{value}");
        }
        assert_eq!(of("endpoint-load-metrics-bin", "CQAAAAAAAOA/"), Some(0.5));
        assert_eq!(of("endpoint-load-metrics-json", "{\"cpu_utilization\": 0.5}"), Some(0.5));
        assert_eq!(of("x-endpoint-load-metrics", "cpu_utilization=0.5"), None);
    }

    #[test]
    fn whatever_bytes_come_nothing_panics() {
        for length in 0..64 {
            for seed in 0..500_u64 {
                let bytes: Vec<u8> =
                    (0..length).map(|n| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 57)) as u8).collect();
                let _ = of_message(&bytes);
            }
        }
        assert_eq!(of_message(&[0xff; 20]), None);
    }
}
