//! A question about a decision, from a command line or an admin request, and its answer.

use std::net::IpAddr;
use std::sync::Arc;

use config::RoutingTable;
use http::HeaderMap;
use policy::explain::Testimony;
use policy::globe::Coordinates;
use policy::jurisdiction::JurisdictionId;
use policy::{Country, CountrySet, Explanation, Facts, Method, Origin, Payload, RegionId, RouteId, View};
use smallvec::SmallVec;
use thiserror::Error;

use crate::client::{Client, CountryHint, Geo, country_hint, evidence, key_of};
use crate::peers::Sender;
use crate::request_context::{RequestContext, TrustSources};
use crate::routing::ClientOnMap;

/// What somebody wants to know: how would this request be decided?
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// The client's address.
    pub(crate) ip: Option<IpAddr>,
    /// The host asked for; any host's routes only, when absent.
    pub(crate) host: String,
    /// The path asked for.
    pub(crate) path: String,
    /// The method, GET when absent.
    pub(crate) method: Option<String>,
    /// What the client sends after the head.
    pub(crate) payload: Payload,
    /// Headers, as from a trusted proxy: (name in lower case, value).
    pub(crate) headers: Vec<(String, String)>,
    /// The client's countries instead of a look-up: a list of codes, or `unknown`.
    pub(crate) country: Option<String>,
    /// Whether consent was given, wherever the route looks for it.
    pub(crate) consent: bool,
    /// The client's identity for the hash, instead of its address.
    pub(crate) client_key: Option<String>,
    /// Where the client is, instead of a look-up: latitude and longitude, for how far it is.
    pub(crate) coordinates: Option<Coordinates>,
}

/// Why a question cannot be answered. The input is at fault.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub(crate) enum QuestionError {
    #[error(
        "unknown parameter {0:?}; there are ip, host, path, method, upgrade (websocket), content (true), header (NAME:VALUE), country, consent (granted), client_key and coordinates"
    )]
    UnknownParameter(String),
    #[error("{0:?} is not an IP address")]
    BadAddress(String),
    #[error("{0}; give ISO codes such as DE,FR, or the word unknown")]
    BadCountry(#[from] policy::country::UnknownCountry),
    #[error("{0:?} is no upgrade that passes: it is websocket, or none")]
    BadUpgrade(String),
    #[error("content={0:?} says nothing: it is true, or left out")]
    BadContent(String),
    #[error("{0:?} is no place; give a latitude and a longitude in degrees, such as 52.5,13.4")]
    BadCoordinates(String),
    #[error("{0:?} is not a header of the form NAME:VALUE")]
    BadHeader(String),
    #[error("the request itself would be answered 400: {0}")]
    BadRequest(String),
}

impl Question {
    /// Reads a query string: `ip=…&host=…&path=…&method=…`.
    ///
    /// # Errors
    /// When a parameter is unknown or does not parse.
    pub(crate) fn from_query(query: &str) -> Result<Self, QuestionError> {
        let mut question = Question::default();
        for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).map(pair) {
            match name.as_str() {
                "ip" => question.ip = Some(value.parse().map_err(|_| QuestionError::BadAddress(value))?),
                "host" => question.host = value,
                "path" => question.path = value,
                "method" => question.method = Some(value),
                "upgrade" if value == "websocket" => question.payload = Payload::Tunnel,
                "upgrade" => return Err(QuestionError::BadUpgrade(value)),
                "content" if value == "true" => question.payload = Payload::Content,
                "content" => return Err(QuestionError::BadContent(value)),
                "header" => question.headers.push(header(&value)?),
                "country" => question.country = Some(value),
                "consent" => question.consent = value == "granted",
                "client_key" => question.client_key = Some(value),
                "coordinates" => question.coordinates = Some(coordinates(&value)?),
                _ => return Err(QuestionError::UnknownParameter(name)),
            }
        }
        Ok(question)
    }
}

/// Splits `NAME:VALUE`.
///
/// # Errors
/// When there is no colon, or no name before it.
pub(crate) fn header(text: &str) -> Result<(String, String), QuestionError> {
    let (name, value) = text.split_once(':').ok_or_else(|| QuestionError::BadHeader(text.to_owned()))?;
    if name.trim().is_empty() {
        return Err(QuestionError::BadHeader(text.to_owned()));
    }
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// Reads `LATITUDE,LONGITUDE` in degrees.
///
/// # Errors
/// When it is no place on this globe.
pub(crate) fn coordinates(text: &str) -> Result<Coordinates, QuestionError> {
    let degrees = |part: &str| part.trim().parse::<f64>().ok();
    let place = text.split_once(',').and_then(|(lat, lon)| Coordinates::new(degrees(lat)?, degrees(lon)?));
    place.ok_or_else(|| QuestionError::BadCoordinates(text.to_owned()))
}

/// Answers a question as a node in `from` with this view would decide. Headers count as a trusted
/// proxy's.
///
/// # Errors
/// When the question's parts are not of their form.
pub(crate) fn answer(
    question: &Question,
    document: &RoutingTable,
    from: RegionId,
    view: &(impl View + ?Sized),
    trust: TrustSources<'_>,
    ways: impl FnOnce(RouteId, &Client) -> Option<ClientOnMap>,
) -> Result<Explanation, QuestionError> {
    let table = &document.table;
    let path = if question.path.is_empty() { "/" } else { question.path.as_str() };
    let host = if question.host.is_empty() { "any" } else { question.host.as_str() };
    let bad = |why: &str| QuestionError::BadRequest(why.to_owned());
    let uri: http::Uri = path.parse().map_err(|_| bad("the path does not parse"))?;
    let mut host_alone = HeaderMap::new();
    host_alone.insert(http::header::HOST, host.parse().map_err(|_| bad("the host does not parse"))?);
    let authority = crate::framing::authority(http::Version::HTTP_11, &uri, &host_alone).map_err(bad)?;
    let target = crate::target::target(&authority, &uri).map_err(bad)?;
    let method = Method::from_name(question.method.as_deref().unwrap_or("GET"));
    let headers = question.headers()?;
    let (client, mut sources) = question.client(trust.geo)?;
    let id = target.route(table, method).map_err(bad)?;
    let route = id.map(|id| &table.route(id).spec);
    let context = match route {
        Some(route) => {
            RequestContext::of(document, route, (&client, &Sender::TrustedProxy), &headers, trust).map_err(bad)?
        }
        None => RequestContext {
            origin: client.origin,
            declared: SmallVec::new(),
            consent: false,
            pinned: None,
            criticality: None,
        },
    };
    if let Some(header) = &trust.geo.country_header {
        sources.push(match country_hint(&headers, header) {
            CountryHint::Nothing => format!("{header}: says nothing"),
            CountryHint::Countries(countries) => {
                let codes: Vec<String> = countries.iter().map(|country| country.to_string()).collect();
                format!("{header}: {}", codes.join(", "))
            }
            CountryHint::Anywhere => format!("{header}: anywhere"),
        });
    }
    let names = |ids: &[JurisdictionId]| -> String {
        let names = ids.iter().filter_map(|id| Some(table.spec().jurisdictions.get(id.0)?.name.as_str()));
        names.collect::<Vec<_>>().join(", ")
    };
    if let Some(route) = route.filter(|route| !route.jurisdictions.is_empty()) {
        sources.push(format!("the route's tenant: also under {}", names(&route.jurisdictions)));
    }
    if let Some(header) =
        route.and_then(|route| route.jurisdiction_header.as_ref()).filter(|_| !context.declared.is_empty())
    {
        sources.push(format!("{header}: also under {}", names(&context.declared)));
    }
    let ways = id.and_then(|id| ways(id, &client));
    let facts = Facts {
        host: &target.host,
        path: &target.path.path,
        method,
        payload: question.payload,
        origin: context.origin,
        declared: &context.declared,
        consent: context.consent || question.consent,
        client_at: ways.as_ref().map(ClientOnMap::at),
        client_key: client.key,
        from,
        pinned: context.pinned,
        only: None,
        criticality: context.criticality,
    };
    let mut explanation = policy::explain(table, &facts, view, sources);
    explanation.origin.evidence = question.evidence(trust.geo);
    Ok(explanation)
}

impl Question {
    fn headers(&self) -> Result<HeaderMap, QuestionError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let bad = || QuestionError::BadHeader(format!("{name}:{value}"));
            let name = http::HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
            headers.append(name, http::HeaderValue::try_from(value.as_str()).map_err(|_| bad())?);
        }
        Ok(headers)
    }

    /// Returns who asks, and what each source says of where they are.
    fn client(&self, geo: &Geo) -> Result<(Client, Vec<String>), QuestionError> {
        let (origin, anonymous, found, sources) = self.origin(geo)?;
        let key = match (&self.client_key, self.ip) {
            (Some(key), _) => policy::hash::client_key(key.as_bytes()),
            (None, Some(ip)) => key_of(ip),
            (None, None) => 0,
        };
        let address = self.ip.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let nowhere = Client {
            country: None,
            region: None,
            city: None,
            address,
            key,
            peer_trusted: true,
            is_named: true,
            origin,
            evidence: Arc::default(),
            anonymous,
            coordinates: self.coordinates.or(found),
        };
        Ok((nowhere, sources))
    }

    fn origin(&self, geo: &Geo) -> Result<(Origin, bool, Option<Coordinates>, Vec<String>), QuestionError> {
        if let Some(text) = &self.country {
            if text.eq_ignore_ascii_case("unknown") {
                return Ok((Origin::Unknown, true, None, vec!["asked: unknown".into()]));
            }
            let countries =
                text.split(',').map(|code| code.trim().parse::<Country>()).collect::<Result<CountrySet, _>>()?;
            return Ok((Origin::of(countries), false, None, vec![format!("asked: {text}")]));
        }
        let Some(ip) = self.ip else {
            return Ok((Origin::Unknown, false, None, vec!["no address and no country asked".into()]));
        };
        let mut sources: Vec<String> = self
            .evidence(geo)
            .iter()
            .zip(geo.databases.databases())
            .map(|(told, database)| {
                let country = match (told.country, &told.field) {
                    (Some(country), Some(field)) => format!("{country} ({field})"),
                    _ => "no country".to_owned(),
                };
                let parts: Vec<String> = [country].into_iter().chain(told.notes.clone()).collect();
                format!("{} ({}): {}", database.path().display(), database.kind(), parts.join(", "))
            })
            .collect();
        if sources.is_empty() {
            sources.push("no geo database".into());
        }
        let place = geo.databases.lookup(ip);
        let anonymous = geo.is_anonymous(&place);
        Ok((geo.origin(&place), anonymous, place.coordinates.filter(|_| !anonymous), sources))
    }

    /// Returns what the databases say of the address, where they are asked.
    fn evidence(&self, geo: &Geo) -> Vec<Testimony> {
        let asked = self.ip.filter(|_| self.country.is_none());
        asked.map_or_else(Vec::new, |ip| evidence(geo, ip))
    }
}

/// Returns a pair of a query string, `+` and percent-encoding undone.
fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (decoded(name), decoded(value))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.push((high * 16 + low) as u8);
                        rest = ahead;
                    }
                    _ => bytes.push(b'%'),
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
