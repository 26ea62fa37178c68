//! The context of a request, which the law must know beside its target: from the geo databases, headers of
//! trusted proxies, another node, a verified token, and our own cookie.

use config::RoutingTable;
use http::HeaderMap;
use http::header::HeaderValue;
use policy::jurisdiction::JurisdictionId;
use policy::pressure::Criticality;
use policy::route::RouteSpec;
use policy::{Origin, RegionId, Table};
use prometheus::IntCounterVec;
use smallvec::SmallVec;

use crate::affinity_cookie::pin;
use crate::client::{Client, CountryHint, Geo, country_hint, widened};
use crate::peers::Sender;
use crate::peers::headers::Asks;
use crate::token::{Tokens, Verification};

/// What is known of a request beside its target. It lives as long as the request.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    /// Where the client may be, by all sources.
    pub(crate) origin: Origin,
    /// The jurisdictions that a trusted proxy declares for the tenant.
    pub(crate) declared: SmallVec<[JurisdictionId; 2]>,
    /// Whether consent was given where the route looks for it.
    pub(crate) consent: bool,
    /// Where the client's cookie pins it.
    pub(crate) pinned: Option<RegionId>,
    /// How critical a trusted proxy or another node says that it is: it can only be less than its route says.
    pub(crate) criticality: Option<Criticality>,
}

/// Whose word counts on this node, at the moment of one request.
#[derive(Clone, Copy)]
pub(crate) struct TrustSources<'a> {
    /// The databases, and what is configured beside them.
    pub(crate) geo: &'a Geo,
    /// Whose tokens are believed.
    pub(crate) tokens: &'a Tokens,
    /// Counts the signatures of tokens that are looked into, of requests.
    pub(crate) verifications: Option<&'a IntCounterVec>,
}

/// Why a trusted proxy's word cannot be taken: the request is refused, because what it asks cannot be
/// kept.
pub(crate) type Contradiction = &'static str;

impl RequestContext {
    /// Gathers the context of one request from everybody whose word counts.
    ///
    /// # Errors
    /// When a trusted proxy declares a jurisdiction that the table does not have.
    pub(crate) fn of(
        document: &RoutingTable,
        route: &RouteSpec,
        who: (&Client, &Sender),
        headers: &HeaderMap,
        sources: TrustSources<'_>,
    ) -> Result<Self, Contradiction> {
        let mut context = Self::stated(document, route, who, headers, sources.geo)?;
        context.prove(document, route, headers, sources);
        Ok(context)
    }

    /// Gathers what is stated of a request by those whose word counts: all of the context that costs no signature.
    ///
    /// # Errors
    /// See [`RequestContext::of`].
    pub(crate) fn stated(
        document: &RoutingTable,
        route: &RouteSpec,
        (client, sender): (&Client, &Sender),
        headers: &HeaderMap,
        geo: &Geo,
    ) -> Result<Self, Contradiction> {
        let table = &document.table;
        let criticality = match sender {
            Sender::Stranger => None,
            Sender::TrustedProxy => {
                let header = document.criticality_header.as_deref();
                header.and_then(|name| least_critical(headers, name))
            }
            Sender::Peer(peer) => match &peer.asks {
                Asks::Probe => None,
                Asks::Serve(vouched) => vouched.criticality,
            },
        };
        let (consents, hint, declared) = match sender {
            Sender::Stranger => (false, CountryHint::Nothing, SmallVec::new()),
            Sender::TrustedProxy => {
                let consents = route.consent_header.as_deref().is_some_and(|name| granted(headers, name));
                let country = geo.country_header.as_ref();
                let tenant = route.jurisdiction_header.as_deref();
                (
                    consents,
                    country.map_or(CountryHint::Nothing, |header| country_hint(headers, header)),
                    tenant.map(|header| declared(table, headers.get_all(header))).transpose()?.unwrap_or_default(),
                )
            }
            // Another node heard its own peers, and tells what it took from them. What else is in the
            // request may be a client's, which that node's table had no reason to take out.
            Sender::Peer(peer) => match &peer.asks {
                Asks::Probe => (false, CountryHint::Anywhere, SmallVec::new()),
                Asks::Serve(vouched) => {
                    let through = |header: &str| vouched.consent.as_ref().is_some_and(|through| through == header);
                    let tenant = vouched.tenant.iter().filter(|_| route.jurisdiction_header.is_some());
                    (route.consent_header.as_deref().is_some_and(through), vouched.origin, declared(table, tenant)?)
                }
            },
        };
        Ok(Self { origin: widened(client, &hint), declared, consent: consents, pinned: None, criticality })
    }

    /// Adds what the request itself proves, by the signatures of its token and of its cookie.
    pub(crate) fn prove(
        &mut self,
        document: &RoutingTable,
        route: &RouteSpec,
        headers: &HeaderMap,
        sources: TrustSources<'_>,
    ) {
        let count = |verification: Verification| {
            if let Some(counts) = sources.verifications {
                counts.with_label_values(&[verification.outcome()]).inc();
            }
        };
        let token = |claim: &str| sources.tokens.grants(headers, claim, count);
        self.consent = self.consent || route.consent_claim.as_deref().is_some_and(token);
        self.pinned = pin(document, route, headers);
    }

    /// Returns the header through which a trusted proxy has declared consent.
    pub(crate) fn consent_through<'r>(
        &self,
        route: &'r RouteSpec,
        sender: &Sender,
        headers: &HeaderMap,
    ) -> Option<&'r str> {
        // What a token's claim consents to, whoever gets the request finds out by the token.
        let is_heard = matches!(sender, Sender::TrustedProxy) && self.consent;
        route.consent_header.as_deref().filter(|header| is_heard && granted(headers, header))
    }
}

/// Returns the least critical of what the lines of a header say, in any case of letters; what they say else counts for
/// nothing.
fn least_critical(headers: &HeaderMap, name: &str) -> Option<Criticality> {
    let said = |value: &HeaderValue| Criticality::named(&value.to_str().ok()?.trim().to_ascii_lowercase());
    headers.get_all(name).iter().filter_map(said).min()
}

/// Returns whether every line of a header says `granted`: a proxy may have appended its own to a client's.
pub(crate) fn granted(headers: &HeaderMap, name: &str) -> bool {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek().is_some() && lines.all(|line| line == "granted")
}

/// Returns the jurisdictions that a header's lines name, comma-separated.
pub(crate) fn declared<'a>(
    table: &Table,
    lines: impl IntoIterator<Item = &'a HeaderValue>,
) -> Result<SmallVec<[JurisdictionId; 2]>, Contradiction> {
    let mut found = SmallVec::new();
    for line in lines {
        let line = line.to_str().map_err(|_| UNKNOWN_JURISDICTION)?;
        for name in line.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let id = table.jurisdiction_named(name).ok_or(UNKNOWN_JURISDICTION)?;
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

const UNKNOWN_JURISDICTION: Contradiction = "a trusted proxy declares a jurisdiction that the table does not have";
