//! The only place that turns an outcome into a status code.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LINK, LOCATION, RETRY_AFTER,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use policy::concurrency::retry_after;
use policy::health::Claim;
use policy::route::{Method, MethodSet, RouteSpec};
use policy::{Reason, Refusal, Revoked};
use serde::Serialize;

use crate::answer_form::AnswerForm;
use crate::framing::HeadFault;
use crate::grpc::{self, Code};
use crate::peers::headers::Unsent;
use crate::refusal_page::RefusalPage;
use crate::request_body::BodyFault;
use crate::request_log::REVOKED;
use crate::response_body::ResponseBody;
use crate::upstream::plan::{ForwardError, NoRetry};

/// An answer that Meridian gives itself.
#[derive(Debug)]
pub(crate) struct OwnAnswer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its reason, as the contract names it.
    pub(crate) reason: &'static str,
    title: &'static str,
    detail: Box<str>,
    /// The operator's page, for people.
    page: Option<Arc<str>>,
    /// The URL of whoever has it blocked.
    blocked_by: Option<Arc<str>>,
    retry_after: Option<u32>,
    /// The methods that would be taken.
    allow: Option<Option<MethodSet>>,
    /// Whether the sender is, or claims to be, another node, which knows the refusal by its status.
    is_to_node: bool,
    /// The region last tried, for the error's metric.
    pub(crate) region: Box<str>,
    /// How many attempts were made.
    pub(crate) attempts: u32,
    /// Whether it is certain that no origin has seen the request, so that another region may.
    pub(crate) unsent: bool,
}

/// RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    request_id: &'a str,
}

/// Seconds after which a client may try again where nothing better is known.
const RETRY_AFTER_SECONDS: u32 = 5;
/// The reason of whatever is shed.
const OVERLOADED: &str = "overloaded";

impl OwnAnswer {
    fn new(status: StatusCode, reason: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            title,
            detail: detail.into().into(),
            page: None,
            blocked_by: None,
            retry_after: None,
            allow: None,
            is_to_node: false,
            region: Box::default(),
            attempts: 0,
            unsent: false,
        }
    }

    fn retry(self) -> Self {
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..self }
    }

    /// Answers that the request is malformed, or can be read in two ways.
    pub(crate) fn bad_request(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "Bad request", detail)
    }

    /// Answers that the request's head cannot be taken.
    pub(crate) fn bad_head(fault: HeadFault) -> Self {
        match fault {
            HeadFault::Ambiguous(why) => Self::bad_request(&format!("The request is refused because {why}.")),
            HeadFault::TooLong => Self::head_too_large(),
            HeadFault::TargetTooLong => {
                let detail = "The request's target is longer than this node takes.";
                Self::new(StatusCode::URI_TOO_LONG, "too_large", "URI too long", detail)
            }
            HeadFault::Version => {
                let detail = "HTTP/1.1, HTTP/1.0 and HTTP/2 are spoken here.";
                Self::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "bad_request", "HTTP version not supported", detail)
            }
        }
    }

    /// Answers an extended CONNECT to another protocol than WebSocket (RFC 9220, 3).
    pub(crate) fn unknown_protocol() -> Self {
        let detail = "Of the protocols of an extended CONNECT, websocket is served here.";
        Self::new(StatusCode::NOT_IMPLEMENTED, "bad_request", "Not implemented", detail)
    }

    /// Answers that the host is not one that this TLS connection may serve.
    pub(crate) fn misdirected() -> Self {
        let detail = "The host is not one that this TLS connection may serve; open a new connection for it.";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "Misdirected request", detail)
    }

    /// Another node chose a region for this request, and dialled the gateway of a different one.
    pub(crate) fn wrong_gateway() -> Self {
        let detail = "The sending node chose another region than this gateway's.";
        let answer = Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "Misdirected request", detail);
        Self { unsent: true, is_to_node: true, ..answer }
    }

    /// Answers that the sender claims to be a node, and is none.
    pub(crate) fn no_peer(why: &str) -> Self {
        let detail = format!("The request claims to come from another node, and does not: {why}.");
        let answer = Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "Misdirected request", detail);
        Self { is_to_node: true, ..answer }
    }

    /// Answers another node's probe: whether this node's region serves, how far its replica lags, and whether it is one.
    pub(crate) fn probe(
        serves: bool,
        lag: Option<std::time::Duration>,
        claim: Option<Claim>,
    ) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let lag = lag.and_then(|lag| HeaderValue::try_from(lag.as_secs_f64().to_string()).ok());
        if let Some(lag) = lag {
            response.headers_mut().insert(crate::fields::REPLICATION_LAG, lag);
        }
        if let Some(claim) = claim.filter(|claim| *claim != Claim::Unsaid) {
            let role = HeaderValue::from_static(claim.name());
            response.headers_mut().insert(crate::fields::REPLICATION_ROLE, role);
        }
        response
    }

    /// Answers a load balancer that asks whether the node takes traffic.
    pub(crate) fn health(serves: bool) -> Response<ResponseBody> {
        let mut response = Self::probe(serves, None, None);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Answers `OPTIONS *`, which is about the node and no route of it (RFC 9110, 9.3.7).
    pub(crate) fn options_of_all() -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }

    /// Answers that the request has come through this node before.
    pub(crate) fn in_a_loop() -> Self {
        let detail = "The request has come through this node before: an endpoint of its routing table leads back here.";
        Self::new(StatusCode::LOOP_DETECTED, "loop", "Loop detected", detail)
    }

    /// Answers that the route takes no such method.
    pub(crate) fn method_not_allowed(route: &RouteSpec) -> Self {
        let detail = "This service does not take TRACE.";
        let answer = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail);
        Self { allow: Some(route.methods), ..answer }
    }

    /// Answers an OPTIONS that is for this node: which methods its route takes.
    pub(crate) fn options(route: &RouteSpec) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        response.headers_mut().insert(ALLOW, allowed(route.methods));
        response
    }

    /// Answers that the request's body is longer than the node takes.
    pub(crate) fn too_large() -> Self {
        let detail = "The request body is longer than this node takes.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Content too large", detail)
    }

    /// Answers that the request's head is longer than the node takes.
    pub(crate) fn head_too_large() -> Self {
        let detail = "The request's header section is longer, or has more fields, than this node takes.";
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "Header fields too large", detail)
    }

    /// Returns why no origin has seen the request, where none has.
    pub(crate) fn why_unsent(&self) -> Option<Unsent> {
        let why = if self.reason == OVERLOADED { Unsent::Full } else { Unsent::Unserved };
        Some(why).filter(|_| self.unsent)
    }

    /// Answers that the node, or every region that could serve, is full; a `load` of 1 is just so. Clients are told
    /// different times to come again, so that they do not come together.
    pub(crate) fn overloaded(load: f32) -> Self {
        let detail = "Too many requests are in flight; this one was shed.";
        let answer = Self::new(StatusCode::SERVICE_UNAVAILABLE, OVERLOADED, "Overloaded", detail);
        Self { unsent: true, retry_after: Some(retry_after(load, fastrand::f32())), ..answer }
    }

    /// Answers that the node is short of memory, or of something else that the request would take.
    pub(crate) fn exhausted() -> Self {
        Self {
            detail: "This node is near the end of what it has; this request was shed.".into(),
            ..Self::overloaded(1.0)
        }
    }

    /// Answers that the client has as many requests in flight as it may.
    pub(crate) fn client_full() -> Self {
        let detail = "This client has as many requests in flight as it may; this one was refused.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "client_limit", "Too many requests", detail).retry()
    }

    /// Answers with a decision's refusal.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let reason = refusal.reason;
        let (title, detail) = match reason {
            Reason::NoRoute => ("Not found", "No route matches this host, path and method."),
            Reason::ResidencyProhibited => {
                ("Unavailable for legal reasons", "Data residency rules leave no region that may serve this request.")
            }
            Reason::ResidencyUnavailable => (
                "Lawful regions unavailable",
                "The regions that data residency rules allow for this request cannot serve it now. Others must not.",
            ),
            Reason::Unavailable => ("Service unavailable", "No region can serve this request now."),
            Reason::TableExpired => (
                "Routing table expired",
                "This node's routing table is older than it may be, and its data residency rules may be out of date.",
            ),
            Reason::EmergencyRouteOff => (
                "Switched off",
                "The operators have switched this part of the service off while they handle an incident.",
            ),
            Reason::EmergencyReadOnly => (
                "Read-only",
                "The operators let this service be read only, for these clients, while they handle an incident: the \
                    request would change something, and was refused.",
            ),
            Reason::EmergencyShed => (
                "Shed in an emergency",
                "The operators refuse what is least important while they handle an incident; this request is.",
            ),
        };
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let (page, blocked_by) = (refusal.page.clone(), refusal.blocked_by.clone());
        let answer = Self { page, blocked_by, ..Self::new(status, reason.name(), title, detail) };
        if reason.is_emergency() {
            // An incident lasts: who is refused comes back over the longest time.
            let again = retry_after(f32::INFINITY, fastrand::f32());
            return Self { retry_after: Some(again), ..answer };
        }
        if status == StatusCode::SERVICE_UNAVAILABLE { Self { unsent: true, ..answer }.retry() } else { answer }
    }

    /// Answers that a new table no longer lets the region serve it that was about to.
    fn revoked(why: &str) -> Self {
        let detail = format!("The region that was serving this request may no longer do so{why}.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, REVOKED, "Region no longer allowed", detail).retry()
    }

    /// Answers that every attempt has failed.
    pub(crate) fn failed(failure: ForwardError) -> Self {
        match failure {
            ForwardError::Body(BodyFault::Broken) => Self::bad_request("The request body broke off or is malformed."),
            ForwardError::Body(BodyFault::Stalled) => {
                let detail = "The client stopped sending the request body.";
                Self::new(StatusCode::REQUEST_TIMEOUT, "bad_request", "Request timeout", detail)
            }
            ForwardError::Body(BodyFault::TooSlow) => {
                let detail = "The client sends the request body more slowly than this node waits for.";
                Self::new(StatusCode::REQUEST_TIMEOUT, "bad_request", "Request timeout", detail)
            }
            ForwardError::Body(BodyFault::TooLarge) => Self::too_large(),
            // Only when an answer that had begun is given up for another attempt.
            ForwardError::Body(BodyFault::Revoked) => Self::revoked(""),
            ForwardError::Revoked { region, attempts, why } => {
                Self { region: region.into(), attempts, ..Self::revoked(revocation_in_words(why)) }
            }
            ForwardError::Overloaded { load, attempts, .. } => Self { attempts, ..Self::overloaded(load) },
            ForwardError::Refused { refusal, attempts } => Self { attempts, ..Self::refused(&refusal) },
            ForwardError::Local { region, attempts, lack } => {
                let detail = format!("This node cannot connect to the service: it lacks {}.", lack.name());
                let answer = Self::new(StatusCode::SERVICE_UNAVAILABLE, "local_error", "Node exhausted", detail);
                Self { region: region.into(), attempts, unsent: true, ..answer.retry() }
            }
            ForwardError::Malformed { region, attempts } => {
                let detail = "The service's answer is malformed, or longer than any client would take.";
                let answer = Self::new(StatusCode::BAD_GATEWAY, "upstream_malformed", "Upstream malformed", detail);
                Self { region: region.into(), attempts, ..answer }
            }
            ForwardError::Failed { region, attempts, timed_out, unsent, end } => {
                let why = match end {
                    NoRetry::Exhausted => "No other attempt is left.",
                    NoRetry::OutOfTime => "The route's time is over.",
                    NoRetry::NotRepeatable => {
                        "It may have been acted on, so it was not sent again: only idempotent methods, and requests \
                            with an Idempotency-Key, are."
                    }
                    NoRetry::BodyGone => "Its body is not kept to be sent again.",
                    NoRetry::OverBudget => "The retry budget of the region is spent.",
                };
                let answer = if timed_out {
                    let detail = format!("The service did not answer in time. {why}");
                    Self::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "Upstream timeout", &detail)
                } else {
                    let detail = format!("The attempt to have the service answer this request failed. {why}");
                    Self::new(StatusCode::BAD_GATEWAY, "upstream_failed", "Upstream failed", &detail)
                };
                Self { region: region.into(), attempts, unsent, ..answer }
            }
        }
    }

    /// Redirects the whole request to HTTPS, method and body kept (308).
    pub(crate) fn redirect(location: &str) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        match HeaderValue::from_str(location) {
            Ok(location) => drop(response.headers_mut().insert(LOCATION, location)),
            Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
        }
        response
    }

    /// Makes a response of it, in the form that its request asks for. A call of another node keeps the status of HTTP,
    /// by which that node judges it.
    pub(crate) fn into_response(
        self,
        form: AnswerForm,
        request_id: &HeaderValue,
        is_to_node: bool,
    ) -> Response<ResponseBody> {
        let mut response = match form {
            _ if self.is_to_node => self.problem(request_id),
            AnswerForm::Grpc => self.call_status(is_to_node),
            AnswerForm::Page => self.html(request_id),
            AnswerForm::Problem => self.problem(request_id),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let link = |url: &Arc<str>| HeaderValue::try_from(format!("<{url}>; rel=\"blocked-by\"")).ok();
        if let Some(link) = self.blocked_by.as_ref().and_then(link) {
            headers.insert(LINK, link);
        }
        response
    }

    /// Returns the code of gRPC that says the same.
    pub(crate) fn code(&self) -> Code {
        match self.status {
            StatusCode::BAD_REQUEST | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Code::INVALID_ARGUMENT,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DEADLINE_EXCEEDED,
            StatusCode::FORBIDDEN | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => Code::PERMISSION_DENIED,
            StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::URI_TOO_LONG
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::RESOURCE_EXHAUSTED,
            StatusCode::NOT_FOUND => Code::UNIMPLEMENTED,
            // Asked again, it would answer the same.
            StatusCode::BAD_GATEWAY if self.reason == "upstream_malformed" => Code::INTERNAL,
            StatusCode::LOOP_DETECTED => Code::INTERNAL,
            _ => Code::UNAVAILABLE,
        }
    }

    /// As the end of a call that has no content: trailers only.
    fn call_status(&self, is_to_node: bool) -> Response<ResponseBody> {
        let words = format!("{}: {}", self.reason, self.detail);
        let mut response = Response::new(ResponseBody::empty());
        if is_to_node {
            *response.status_mut() = self.status;
        }
        *response.headers_mut() = grpc::trailers(self.code(), &words);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT));
        if let Some(seconds) = self.retry_after {
            headers.insert(grpc::RETRY_PUSHBACK, HeaderValue::from(u64::from(seconds) * 1000));
        }
        response
    }

    /// As a page: the operator's, if there is one for it.
    fn html(&self, request_id: &HeaderValue) -> Response<ResponseBody> {
        if let Some(page) = &self.page {
            return self.document(Bytes::from_owner(SharedPage(page.clone())), HTML);
        }
        let page = RefusalPage {
            status: self.status.as_u16(),
            reason: self.reason,
            title: self.title,
            detail: &self.detail,
            request_id: request_id.to_str().unwrap_or_default(),
            blocked_by: self.blocked_by.as_deref(),
        };
        let mut response = self.document(page.html().into(), HTML);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(OWN_PAGE_LOADS));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn problem(&self, request_id: &HeaderValue) -> Response<ResponseBody> {
        let problem = Problem {
            r#type: format!("urn:meridian:problem:{}", self.reason),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            reason: self.reason,
            request_id: request_id.to_str().unwrap_or_default(),
        };
        self.document(serde_json::to_vec(&problem).unwrap_or_default().into(), "application/problem+json")
    }

    fn document(&self, content: Bytes, kind: &'static str) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::full(content));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(methods) = &self.allow {
            headers.insert(ALLOW, allowed(*methods));
        }
        headers.insert(VARY, HeaderValue::from(ACCEPT));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Returns the methods that a route takes, all but some where it names none, as Allow lists them (RFC 9110, 10.2.1).
fn allowed(methods: Option<MethodSet>) -> HeaderValue {
    let unnamed = |method: Method| !matches!(method, Method::Connect | Method::Trace);
    let is_taken = |method| methods.map_or(unnamed(method), |methods| methods.contains(method));
    let names = Method::NAMED.iter().filter(|(_, method)| is_taken(*method)).map(|(name, _)| *name);
    HeaderValue::try_from(names.collect::<Vec<_>>().join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// A page of the table's, which every answer with it shares.
struct SharedPage(Arc<str>);

impl AsRef<[u8]> for SharedPage {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

const HTML: &str = "text/html; charset=utf-8";
/// Our own page has its style within, and needs nothing else.
const OWN_PAGE_LOADS: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

fn revocation_in_words(why: Revoked) -> &'static str {
    match why {
        Revoked::Removed => ": the routing table no longer has it, or a route for this request",
        Revoked::Residency => ", by the data residency rules that have come in force",
        Revoked::Expired => ": this node's routing table is older than it may be, and its rules may be out of date",
        Revoked::Disabled => ": it was disabled",
        Revoked::Emergency => ": the operators have switched it off while they handle an incident",
        Revoked::Unable => ": it no longer has what the route asks of a region",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_refusals_by_their_status_calls_or_not() {
        let id = HeaderValue::from_static("7");
        let of = |form, answer: OwnAnswer, is_to_node| {
            let response = answer.into_response(form, &id, is_to_node);
            let text = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), text("content-type"), text("grpc-status"), text("grpc-retry-pushback-ms"))
        };
        let some = |text: &str| Some(text.to_owned());
        for (is_to_node, status) in [(false, 200), (true, 503)] {
            let expected = (status, some("application/grpc"), some("14"), some("5000"));
            let unreachable = OwnAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "reason", "Title", "detail").retry();
            assert_eq!(of(AnswerForm::Grpc, unreachable, is_to_node), expected);
        }
        for form in [AnswerForm::Grpc, AnswerForm::Page, AnswerForm::Problem] {
            for (answer, is_to_node) in [(OwnAnswer::wrong_gateway(), true), (OwnAnswer::no_peer("no"), false)] {
                assert_eq!(of(form, answer, is_to_node), (421, some("application/problem+json"), None, None));
            }
        }
    }

    #[test]
    fn each_status_has_its_code() {
        for (status, code) in [
            (400, 3),
            (403, 7),
            (404, 12),
            (408, 4),
            (413, 8),
            (414, 8),
            (421, 14),
            (429, 8),
            (431, 8),
            (451, 7),
            (502, 14),
            (503, 14),
            (504, 4),
            (505, 3),
        ] {
            let answer = OwnAnswer::new(StatusCode::from_u16(status).unwrap(), "reason", "Title", "detail");
            assert_eq!(answer.code().number(), code, "{status}");
        }
    }
}
