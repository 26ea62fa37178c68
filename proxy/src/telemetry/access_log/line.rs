//! One line of the access log, written from what a request has, without a copy in between.

use std::net::IpAddr;
use std::time::Duration;

use policy::pressure::Criticality;
use policy::{Origin, Payload};
use serde::Serialize;
use smallvec::SmallVec;

use crate::fields::{Ipv4Text, write_hex};
use crate::grpc::CallEnd;
use crate::telemetry::time_text::decimals;

/// One request's line. It borrows all that it can from the request, and lives for as long as it is written.
/// `cli/replay/line.rs` reads these fields.
#[allow(missing_docs)]
pub(crate) struct LogLine<'a> {
    pub(crate) request_id: &'a [u8],
    /// Truncated (/24, /48) unless the node file asks for more or less.
    pub(crate) client: Option<IpAddr>,
    /// The countries that the client may be in; none when unknown.
    pub(crate) origin: Origin,
    pub(crate) place: Place<'a>,
    pub(crate) client_key: Option<u64>,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'a str,
    /// Whether it asked for an upgrade, or had content: see `policy::Facts`.
    pub(crate) payload: Payload,
    pub(crate) host: &'a str,
    /// Without the query, which may carry personal data.
    pub(crate) path: &'a str,
    pub(crate) consent: bool,
    /// The jurisdictions that a trusted proxy declared for the tenant.
    pub(crate) declared: SmallVec<[&'a str; 2]>,
    /// The region that a cookie pins the client to.
    pub(crate) pinned: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) data_class: Option<&'a str>,
    /// How critical it is, where that is less than its route says.
    pub(crate) lowered_to: Option<Criticality>,
    /// Where the client was, in degrees, where a score went by that.
    pub(crate) coordinates: Option<(f64, f64)>,
    /// The region of the node that decided.
    pub(crate) from: &'a str,
    /// Whether another node had chosen the region, and has a line of its own for the request.
    pub(crate) chosen: bool,
    pub(crate) table_version: &'a str,
    pub(crate) status: u16,
    pub(crate) reason: Option<&'static str>,
    pub(crate) region: Option<&'a str>,
    pub(crate) attempts: u32,
    /// The law opened the region with safeguards only.
    pub(crate) safeguards: bool,
    pub(crate) took: Duration,
    pub(crate) response_bytes: u64,
    /// Whether the answer was sent to its end.
    pub(crate) complete: bool,
    /// How it ended, of a gRPC call.
    pub(crate) call_end: Option<CallEnd>,
    /// Of a tunnel, whose line is written at its end.
    pub(crate) tunnel: Option<TunnelSummary>,
}

/// Who says where a client is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// What each geo database says, by which field, and what contradicts it: a JSON array of
    /// [`policy::explain::Testimony`], or nothing.
    pub(crate) databases: &'a str,
    /// Who else says something that makes the client's origin another.
    pub(crate) other: Option<&'static str>,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TunnelEnd {
    /// Either side closed it.
    Closed,
    /// It broke, or never came about: a side did not take it up in time.
    Broken,
    /// No byte went either way for [`config::Limits::tunnel_idle_timeout`].
    Idle,
    /// Its region may no longer serve it.
    Revoked,
}

/// What a tunnel adds to the access log.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct TunnelSummary {
    /// Bytes from the client to the origin.
    pub(crate) bytes_up: u64,
    /// Bytes from the origin to the client.
    pub(crate) bytes_down: u64,
    /// How it ended.
    pub(crate) ended: TunnelEnd,
}

impl TunnelEnd {
    /// Returns its name, for metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TunnelEnd::Closed => "closed",
            TunnelEnd::Broken => "broken",
            TunnelEnd::Idle => "idle",
            TunnelEnd::Revoked => "revoked",
        }
    }
}

impl LogLine<'_> {
    /// Writes the line, as a JSON object and a line feed.
    pub(super) fn write(&self, out: &mut Vec<u8>, time: &[u8]) {
        out.reserve(TYPICAL);
        put(out, "{\"time\":\"");
        out.extend_from_slice(time);
        put(out, "\",\"request_id\":");
        match std::str::from_utf8(self.request_id) {
            Ok(id) => text(out, id),
            Err(_) => text(out, &String::from_utf8_lossy(self.request_id)),
        }
        put(out, ",\"client\":");
        address(out, self.client);
        put(out, ",\"countries\":[");
        match self.origin {
            Origin::Country(country) => text(out, country.code()),
            Origin::Countries(countries) => list(out, countries.iter(), |out, country| text(out, country.code())),
            Origin::Unknown => {}
        }
        put(out, "],\"place\":");
        self.place.write(out);
        put(out, ",\"client_key\":\"");
        if let Some(key) = self.client_key {
            hexadecimal(out, key);
        }
        put(out, "\",\"protocol\":");
        text(out, self.protocol);
        put(out, ",\"method\":");
        text(out, self.method);
        // What most requests have in common is put down in one piece.
        match self.payload {
            Payload::Nothing => put(out, ",\"upgrade\":false,\"content\":false,\"host\":"),
            Payload::Content => put(out, ",\"upgrade\":false,\"content\":true,\"host\":"),
            Payload::Tunnel => put(out, ",\"upgrade\":true,\"content\":false,\"host\":"),
        }
        text(out, self.host);
        put(out, ",\"path\":");
        text(out, self.path);
        if !self.consent && self.declared.is_empty() && self.pinned.is_none() {
            put(out, ",\"consent\":false,\"declared\":[],\"pinned\":null,\"route\":");
        } else {
            put(
                out,
                if self.consent { ",\"consent\":true,\"declared\":[" } else { ",\"consent\":false,\"declared\":[" },
            );
            list(out, self.declared.iter(), |out, name| text(out, name));
            put(out, "],\"pinned\":");
            name(out, self.pinned);
            put(out, ",\"route\":");
        }
        name(out, self.route);
        put(out, ",\"data_class\":");
        name(out, self.data_class);
        if let Some(criticality) = self.lowered_to {
            put(out, ",\"criticality\":");
            text(out, criticality.name());
        }
        if let Some(coordinates) = &self.coordinates {
            put(out, ",\"coordinates\":");
            json(out, coordinates);
        }
        put(out, ",\"from\":");
        text(out, self.from);
        put(
            out,
            if self.chosen { ",\"chosen\":true,\"table_version\":" } else { ",\"chosen\":false,\"table_version\":" },
        );
        text(out, self.table_version);
        put(out, ",\"status\":");
        number(out, u64::from(self.status));
        put(out, ",\"reason\":");
        name(out, self.reason);
        put(out, ",\"region\":");
        name(out, self.region);
        put(out, ",\"attempts\":");
        number(out, u64::from(self.attempts));
        put(
            out,
            if self.safeguards {
                ",\"safeguards\":true,\"duration_ms\":"
            } else {
                ",\"safeguards\":false,\"duration_ms\":"
            },
        );
        milliseconds(out, self.took);
        put(out, ",\"response_bytes\":");
        number(out, self.response_bytes);
        put(out, if self.complete { ",\"complete\":true" } else { ",\"complete\":false" });
        match self.call_end {
            None => {}
            Some(CallEnd::NoStatus) => put(out, ",\"grpc_status\":null"),
            Some(CallEnd::Status(code)) => {
                put(out, ",\"grpc_status\":");
                number(out, u64::from(code.number()));
            }
        }
        if let Some(tunnel) = &self.tunnel {
            put(out, ",\"tunnel\":");
            json(out, tunnel);
        }
        put(out, "}\n");
    }
}

impl Place<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let databases = self.databases.strip_suffix(']').unwrap_or("[");
        put(out, databases);
        if let Some(other) = self.other {
            if databases.len() > 1 {
                out.push(b',');
            }
            put(out, "{\"source\":");
            text(out, other);
            out.extend_from_slice(
                b",\"country\":null,\"field\":null,\"notes\":[\"makes the client's origin another\"]}",
            );
        }
        out.push(b']');
    }
}

#[inline]
fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    if let Err(error) = serde_json::to_writer(out, value) {
        tracing::error!(%error, "a line of the access log is broken: a value has no JSON");
    }
}

/// Writes a text as a JSON string, which nearly all are but for their quotes.
fn text(out: &mut Vec<u8>, text: &str) {
    // Without an early end, so that several bytes are looked at at once.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
    if is_plain {
        out.push(b'"');
        put(out, text);
        out.push(b'"');
    } else {
        json(out, text);
    }
}

fn name(out: &mut Vec<u8>, name: Option<&str>) {
    match name {
        Some(name) => text(out, name),
        None => put(out, "null"),
    }
}

/// Writes a number in decimal.
fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; LONGEST_NUMBER];
    let mut first = LONGEST_NUMBER;
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        first = index;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

fn list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

fn address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => put(out, "null"),
        Some(IpAddr::V4(address)) => {
            out.push(b'"');
            out.extend_from_slice(Ipv4Text::of(address).as_bytes());
            out.push(b'"');
        }
        Some(IpAddr::V6(address)) => json(out, &address),
    }
}

fn hexadecimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 16];
    write_hex(&mut digits, u128::from(number));
    out.extend_from_slice(&digits);
}

/// Writes milliseconds with three decimals: microseconds, past which a duration is noise.
fn milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1000);
    out.push(b'.');
    decimals(out, micros % 1000);
}

/// The digits of the largest number.
const LONGEST_NUMBER: usize = 20;
/// Bytes of a line, more than most have.
const TYPICAL: usize = 1024;
