//! A question about a decision, from a command line or an admin request, and its answer.

use std::net::IpAddr;

use policy::{Country, CountrySet, Explanation, Facts, Method, Origin, RegionId, Table, View};
use thiserror::Error;

use crate::client::key_of;
use crate::node::Geo;

/// What somebody wants to know: how would this request be decided?
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The host asked for; any host's routes only, when absent.
    pub host: String,
    /// The path asked for.
    pub path: String,
    /// The method, GET when absent.
    pub method: Option<String>,
    /// Headers, as from a trusted proxy: (name in lower case, value).
    pub headers: Vec<(String, String)>,
    /// The client's countries instead of a look-up: a list of codes, or `unknown`.
    pub country: Option<String>,
    /// The client's identity for the hash, instead of its address.
    pub client_key: Option<String>,
}

/// Why a question cannot be answered. The input is at fault.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum QuestionError {
    #[error("unknown parameter {0:?}; there are ip, host, path, method, header (NAME:VALUE), country and client_key")]
    UnknownParameter(String),
    #[error("{0:?} is not an IP address")]
    BadAddress(String),
    #[error("{0}; give ISO codes such as DE,FR, or the word unknown")]
    BadCountry(#[from] policy::country::UnknownCountry),
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
    pub fn from_query(query: &str) -> Result<Self, QuestionError> {
        let mut question = Question::default();
        for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).map(pair) {
            match name.as_str() {
                "ip" => question.ip = Some(value.parse().map_err(|_| QuestionError::BadAddress(value))?),
                "host" => question.host = value,
                "path" => question.path = value,
                "method" => question.method = Some(value),
                "header" => question.headers.push(header(&value)?),
                "country" => question.country = Some(value),
                "client_key" => question.client_key = Some(value),
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
pub fn header(text: &str) -> Result<(String, String), QuestionError> {
    let (name, value) = text.split_once(':').ok_or_else(|| QuestionError::BadHeader(text.to_owned()))?;
    if name.trim().is_empty() {
        return Err(QuestionError::BadHeader(text.to_owned()));
    }
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// Answers a question as a node in `from` with this view would decide.
///
/// # Errors
/// When the question's parts are not of their form.
pub fn answer(
    question: &Question,
    table: &Table,
    from: RegionId,
    view: &(impl View + ?Sized),
    geo: Option<&Geo>,
) -> Result<Explanation, QuestionError> {
    let (origin, sources) = origin(question, geo)?;
    let path = if question.path.is_empty() { "/" } else { question.path.as_str() };
    let host = if question.host.is_empty() { "any" } else { question.host.as_str() };
    let bad = |why: &str| QuestionError::BadRequest(why.to_owned());
    let uri: http::Uri = path.parse().map_err(|_| bad("the path does not parse"))?;
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::HOST, host.parse().map_err(|_| bad("the host does not parse"))?);
    let target = crate::target::target(http::Version::HTTP_11, &uri, &headers).map_err(bad)?;
    let method = Method::from_name(question.method.as_deref().unwrap_or("GET"));
    let consent_header =
        target.route(table, method).map_err(bad)?.and_then(|route| table.route(route).spec.consent_header.clone());
    let says = |name: &str| question.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let facts = Facts {
        host: &target.host,
        path: &target.path.path,
        method,
        origin,
        declared: &[],
        consent: consent_header.as_deref().and_then(says) == Some("granted"),
        client_key: match (&question.client_key, question.ip) {
            (Some(key), _) => policy::hash::client_key(key.as_bytes()),
            (None, Some(ip)) => key_of(ip),
            (None, None) => 0,
        },
        from,
        pinned: None,
        only: None,
    };
    Ok(policy::explain(table, &facts, view, sources))
}

fn origin(question: &Question, geo: Option<&Geo>) -> Result<(Origin, Vec<String>), QuestionError> {
    if let Some(text) = &question.country {
        if text.eq_ignore_ascii_case("unknown") {
            return Ok((Origin::Unknown, vec!["asked: unknown".into()]));
        }
        let countries =
            text.split(',').map(|code| code.trim().parse::<Country>()).collect::<Result<CountrySet, _>>()?;
        return Ok((Origin::of(countries), vec![format!("asked: {text}")]));
    }
    let Some(ip) = question.ip else { return Ok((Origin::Unknown, vec!["no address and no country asked".into()])) };
    let Some(geo) = geo else { return Ok((Origin::Unknown, vec!["no geo database".into()])) };
    let place = geo.databases.lookup(ip);
    let mut sources: Vec<String> = geo
        .databases
        .databases()
        .map(|database| {
            let seen = database.lookup(ip);
            let country = seen.country.map_or_else(|| "no country".to_owned(), |country| country.to_string());
            let hidden = if seen.anonymous { ", anonymous network" } else { "" };
            format!("{} ({}): {country}{hidden}", database.path().display(), database.kind())
        })
        .collect();
    if sources.is_empty() {
        sources.push("no geo database".into());
    }
    let origin = if place.anonymous { Origin::Unknown } else { Origin::of(place.countries) };
    Ok((origin, sources))
}

/// A pair of a query string, `+` and percent-encoding undone.
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
