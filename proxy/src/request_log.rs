//! Counts and logs every request once, at the end of its answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::{Method as HttpMethod, Request, StatusCode, Uri, Version};
use policy::globe::Coordinates;
use policy::jurisdiction::JurisdictionId;
use policy::{Method, Origin, Payload, RegionId, Revoked, RouteId};

use crate::answer_form::AnswerForm;
use crate::client::Client;
use crate::client_connection::{Active, ClientConnection};
use crate::client_content::ClientContent;
use crate::client_counts::ClientPlace;
use crate::clock;
use crate::fields::new_request_id;
use crate::framing::{self, payload};
use crate::grpc::CallEnd;
use crate::in_flight::Turn;
use crate::node::Worker;
use crate::peers::headers::{Answering, PublishedTable};
use crate::request_context::RequestContext;
use crate::revocation::{Grant, RevocationCheck};
use crate::routing::WorkerRouting;
use crate::telemetry::access_log::line::{LogLine, Place, TunnelEnd, TunnelSummary};
use crate::telemetry::answered_request::{AnsweredRequest, JurisdictionLabel};

/// What is counted and logged of one request, collected on the way. Its drop, on the worker's thread, counts and
/// writes it: at the end of the answer's body or of the tunnel, or when either is given up.
pub(crate) struct RequestLog {
    pub(crate) worker: Arc<Worker>,
    pub(crate) connection: Arc<ClientConnection>,
    pub(crate) routing: WorkerRouting,
    pub(crate) started: Instant,
    pub(crate) request_id: HeaderValue,
    pub(crate) method: Method,
    /// What the client sends after the head.
    pub(crate) payload: Payload,
    /// How the client reads what this node answers itself.
    pub(crate) form: AnswerForm,
    /// How its call has ended so far, if it is one.
    pub(crate) call_end: CallEnd,
    pub(crate) client: Option<Arc<Client>>,
    /// Its place among what its client has in flight, where that is limited: as long as it lasts, as a tunnel too.
    pub(crate) client_place: Option<ClientPlace>,
    pub(crate) route: Option<RouteId>,
    pub(crate) region: Option<RegionId>,
    /// The answer's status; of a refused call that of the refusal, though HTTP says 200.
    pub(crate) status: StatusCode,
    pub(crate) reason: Option<&'static str>,
    pub(crate) attempts: u32,
    /// After how long an origin's answer had its head.
    pub(crate) head_after: Option<Duration>,
    /// What the decision knew; `None` before it.
    pub(crate) context: Option<RequestContext>,
    pub(crate) safeguarded: bool,
    /// The client has not sent all of its body, or may not have.
    pub(crate) unread_body: bool,
    /// The connection must not be used again.
    pub(crate) close: bool,
    /// Another node has chosen a region for it, and wants to know whose answer it gets.
    pub(crate) peer: Option<Answering>,
    /// Another region's node has refused the call, with a status of HTTP that its client does not get.
    pub(crate) is_nodes_refusal: bool,
    /// The table that has the emergency in which this node refuses, where no origin can have seen the request.
    pub(crate) refusing_table: Option<PublishedTable>,
    /// Another node's probe: not counted or logged among requests.
    pub(crate) is_probe: bool,
    /// The target as it was sent, for the log, and for a new table to be asked of it.
    uri: Uri,
    /// The authority asked for, once it is known: its host is read again.
    pub(crate) authority: Option<HeaderValue>,
    http_method: HttpMethod,
    version: Version,
    check: RevocationCheck,
    tunnelled: Option<TunnelSummary>,
    counted: bool,
    bytes: u64,
    complete: bool,
    /// It is among the node's requests in flight: until it is a tunnel.
    in_flight: bool,
    /// When it came among them.
    pub(crate) turn: Turn,
    _active: Active,
}

impl RequestLog {
    /// Begins with a request's head, of a request that is decided under this routing.
    pub(crate) fn begin(
        worker: Arc<Worker>,
        connection: Arc<ClientConnection>,
        routing: WorkerRouting,
        request: &Request<ClientContent>,
    ) -> Self {
        let turn = worker.requests.take();
        Self {
            turn,
            check: RevocationCheck::new(&routing),
            routing,
            started: clock::now(),
            request_id: new_request_id(),
            method: Method::from_name(request.method().as_str()),
            payload: payload(request),
            form: AnswerForm::of(request),
            call_end: CallEnd::NoStatus,
            client: None,
            client_place: None,
            route: None,
            region: None,
            // Overwritten by the answer; nginx's word for a client that did not wait for it.
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
            reason: None,
            attempts: 0,
            head_after: None,
            context: None,
            safeguarded: false,
            unread_body: false,
            close: false,
            peer: None,
            is_nodes_refusal: false,
            refusing_table: None,
            is_probe: false,
            uri: request.uri().clone(),
            authority: None,
            http_method: request.method().clone(),
            version: request.version(),
            tunnelled: None,
            counted: false,
            bytes: 0,
            complete: false,
            in_flight: true,
            _active: connection.begin(),
            worker,
            connection,
        }
    }

    /// Returns whether it came over HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// Some of the answer's body was handed on.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The answer's body is at its end.
    pub(crate) fn completed(&mut self) {
        self.complete = true;
    }

    /// The answer ends early, for this reason.
    pub(crate) fn broke(&mut self, reason: &'static str, error: &dyn std::fmt::Display) {
        let region = self.region.map_or("", |id| self.routing.table().region(id).name.as_str());
        self.reason = Some(reason);
        self.worker.node.telemetry.metrics.errors.with_label_values(&[region, reason]).inc();
        tracing::debug!(%error, region, "answer broken off");
    }

    /// The client's deadline for the call came before the end of the answer.
    pub(crate) fn out_of_time(&mut self) {
        let region = self.region.map_or("", |id| self.routing.table().region(id).name.as_str());
        self.reason = Some("upstream_timeout");
        self.worker.node.telemetry.metrics.errors.with_label_values(&[region, "upstream_timeout"]).inc();
    }

    /// Returns why the region that serves it may no longer do so, once it is time to end it.
    pub(crate) fn revoked(&mut self) -> Option<Revoked> {
        let mut check = self.check;
        let why = check.look(&self.worker.node.routing, |current| self.grant()?.revoked(current));
        self.check = check;
        why
    }

    /// Returns when it must end, if a table has revoked it.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        self.check.ends_at()
    }

    /// Returns what was permitted; `None` before an origin answers.
    pub(crate) fn grant(&self) -> Option<Grant> {
        Some(Grant {
            pinned: self.routing.clone(),
            region: self.region?,
            host: self.host().into_owned(),
            uri: self.uri.clone(),
            method: self.method,
            payload: self.payload,
            context: self.context.clone()?,
            client_key: self.client.as_ref()?.key,
            from_a_node: self.peer.is_some(),
        })
    }

    /// Its region may no longer serve it: it ends here.
    pub(crate) fn end_revoked(&mut self, kind: &str, why: Revoked) {
        self.reason = Some(REVOKED);
        let region = self.region.map_or("", |id| self.routing.table().region(id).name.as_str());
        self.worker.node.telemetry.metrics.revoked.with_label_values(&[region, kind, why.name()]).inc();
        tracing::debug!(region, kind, cause = why.name(), "ended: the region may no longer serve it");
    }

    /// Counts it as answered, and as in flight no longer: it is a tunnel now.
    pub(crate) fn leave_flight(&mut self) {
        self.count(self.started.elapsed());
        self.land();
    }

    /// Counts it out of the node's requests in flight, once.
    fn land(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.worker.requests.give();
        }
    }

    /// Notes what has become of its tunnel.
    pub(crate) fn tunnelled(&mut self, summary: TunnelSummary) {
        self.bytes = summary.bytes_down;
        self.complete = summary.ended == TunnelEnd::Closed;
        self.tunnelled = Some(summary);
    }

    fn jurisdiction(&self) -> JurisdictionLabel {
        JurisdictionLabel::of(&self.origin(), self.routing.table())
    }

    /// Returns who says where the client is: the databases, and whoever made more countries possible.
    fn place(&self) -> Place<'_> {
        let Some(client) = &self.client else { return Place { databases: "", other: None } };
        let overruled = self.context.as_ref().is_some_and(|context| context.origin != client.origin);
        let source = if self.peer.is_some() { "another node" } else { "the country header" };
        Place { databases: &client.evidence, other: overruled.then_some(source) }
    }

    /// Returns the host asked for; nothing before it is known to be one.
    fn host(&self) -> Cow<'_, str> {
        let authority = self.authority.as_ref().and_then(|authority| authority.to_str().ok());
        authority.and_then(|authority| framing::host(authority).ok()).unwrap_or_default()
    }

    /// Returns where the client may be, as far as that came out.
    fn origin(&self) -> Origin {
        let by_address = || self.client.as_ref().map(|client| client.origin);
        self.context.as_ref().map(|context| context.origin).or_else(by_address).unwrap_or(Origin::Unknown)
    }

    /// Counts the answer, once.
    fn count(&mut self, took: Duration) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        self.answered().count(&self.worker.metrics, took, self.head_after.unwrap_or(took));
        if let Some(observed) = &self.worker.observed {
            observed.answered(self.status.as_u16(), self.reason, took);
        }
    }

    /// Returns what the answer is counted under.
    fn answered(&self) -> AnsweredRequest<'_> {
        AnsweredRequest {
            generation: self.routing.generation,
            table: self.routing.table(),
            route: self.route,
            region: self.region,
            here: self.routing.here,
            method: self.method,
            status: self.status.as_u16(),
            jurisdiction: self.jurisdiction(),
            outcome: self.reason.unwrap_or(if self.region.is_some() { "forward" } else { "none" }),
            call_end: self.call_end(),
        }
    }

    /// Returns how the call has ended, of a request that is one.
    fn call_end(&self) -> Option<CallEnd> {
        self.form.is_call().then_some(self.call_end)
    }

    /// Writes its line in the access log.
    fn write_line(&self, took: Duration) {
        let table = self.routing.table();
        let addresses = self.worker.settings().config.log.client_addresses;
        let route = self.route.map(|id| &table.route(id).spec);
        let class = |route: &policy::route::RouteSpec| table.spec().data_classes.get(route.data_class.0);
        let jurisdiction = |id: &JurisdictionId| Some(table.spec().jurisdictions.get(id.0)?.name.as_str());
        let context = self.context.as_ref();
        let region = |id: RegionId| table.region(id).name.as_str();
        let key = |client: &Arc<Client>| match addresses {
            config::ClientAddresses::None => self.routing.document.affinity.pseudonym(client.key),
            config::ClientAddresses::Full | config::ClientAddresses::Truncated => client.key,
        };
        self.worker.access_log.write(&LogLine {
            request_id: self.request_id.as_bytes(),
            client: self.client.as_ref().and_then(|client| shown(client.address, addresses)),
            origin: self.origin(),
            place: self.place(),
            client_key: self.client.as_ref().map(key),
            protocol: protocol_name(self.version),
            method: self.http_method.as_str(),
            payload: self.payload,
            host: &self.host(),
            path: self.uri.path(),
            consent: context.is_some_and(|context| context.consent),
            declared: context.iter().flat_map(|context| &context.declared).filter_map(jurisdiction).collect(),
            pinned: context.and_then(|context| context.pinned).map(region),
            route: route.map(|route| route.name.as_str()),
            data_class: route.and_then(class).map(|class| class.name.as_str()),
            lowered_to: context
                .and_then(|context| context.criticality)
                .filter(|said| route.is_some_and(|route| *said < route.criticality)),
            coordinates: self.coordinates(addresses).map(Coordinates::degrees),
            from: region(self.routing.here),
            chosen: self.peer.is_some(),
            table_version: &table.spec().version,
            status: self.status.as_u16(),
            reason: self.reason,
            region: self.region.map(region),
            attempts: self.attempts,
            safeguards: self.safeguarded,
            took,
            response_bytes: self.bytes,
            complete: self.complete,
            call_end: self.call_end(),
            tunnel: self.tunnelled,
        });
    }
}

impl RequestLog {
    /// Returns where its client was, as far as the log may carry it, where the score went by that.
    fn coordinates(&self, addresses: config::ClientAddresses) -> Option<Coordinates> {
        let may_be_told = addresses != config::ClientAddresses::None && self.peer.is_none();
        let route = self.route.filter(|route| may_be_told && self.routing.table().is_by_client(*route));
        let exact = route.and(self.client.as_ref()?.coordinates)?;
        Some(if addresses == config::ClientAddresses::Truncated { exact.rounded() } else { exact })
    }
}

/// The reason of what a new table has ended.
pub(crate) const REVOKED: &str = "revoked";

impl Drop for RequestLog {
    fn drop(&mut self) {
        self.land();
        if self.is_probe {
            return;
        }
        let took = self.started.elapsed();
        self.count(took);
        self.answered().count_bytes(&self.worker.metrics, self.bytes);
        if self.worker.access_log.is_on() {
            self.write_line(took);
        }
    }
}

/// Returns as much of an address as the log may carry.
pub(crate) fn shown(address: IpAddr, wanted: config::ClientAddresses) -> Option<IpAddr> {
    match (wanted, address) {
        (config::ClientAddresses::None, _) => None,
        (config::ClientAddresses::Full, address) => Some(address),
        (config::ClientAddresses::Truncated, IpAddr::V4(v4)) => Some(IpAddr::V4((v4.to_bits() & !0xff).into())),
        (config::ClientAddresses::Truncated, IpAddr::V6(v6)) => {
            Some(IpAddr::V6((v6.to_bits() & !(u128::MAX >> 48)).into()))
        }
    }
}

fn protocol_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP",
    }
}
