//! Requests that are for this hop (RFC 9110, 7.6.2), and those that no origin should see.

use http::header::{HeaderValue, MAX_FORWARDS};
use http::{HeaderMap, Response};
use policy::Method;
use policy::route::RouteSpec;

use crate::respond::OwnAnswer;
use crate::response_body::ResponseBody;

/// Answers what asks for this hop (RFC 9110, 7.6.2), and refuses what no origin should see: TRACE, unless its route names
/// it, since its answer would show fields that scripts must not read.
pub(super) fn answered_here(
    method: Method,
    route: &RouteSpec,
    headers: &mut HeaderMap,
) -> Result<Option<Response<ResponseBody>>, OwnAnswer> {
    let is_named = route.methods.is_some_and(|methods| methods.contains(method));
    if method == Method::Trace && !is_named {
        return Err(OwnAnswer::method_not_allowed(route));
    }
    let Some(left) = headers.get(MAX_FORWARDS) else { return Ok(None) };
    let digits = left.to_str().ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u32>().ok()) {
        None => Err(OwnAnswer::bad_request("The request is refused because its Max-Forwards is no number.")),
        Some(0) if method == Method::Trace => Err(OwnAnswer::method_not_allowed(route)),
        Some(0) => Ok(Some(OwnAnswer::options(route))),
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(None)
        }
    }
}
