//! Step 1 of the contract: the most specific route, by looking at all of them.

use policy::Method;
use policy::route::{HostPattern, PathPattern, RouteSpec};

/// The most specific routes for a request; several when the table does not tell them apart.
pub fn most_specific<'a>(routes: &'a [RouteSpec], host: &str, path: &str, method: Method) -> Vec<&'a RouteSpec> {
    let mut best: Vec<(Specificity, &RouteSpec)> = Vec::new();
    for route in routes {
        let Some(specificity) = specificity(route, host, path, method) else { continue };
        match best.first().map(|(known, _)| specificity.cmp(known)) {
            Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Equal) => best.push((specificity, route)),
            Some(std::cmp::Ordering::Greater) | None => best = vec![(specificity, route)],
        }
    }
    best.into_iter().map(|(_, route)| route).collect()
}

/// Greater is more specific: the host's kind and length, whether the path is exact, the prefix's
/// length, whether methods are given.
type Specificity = (u8, usize, bool, usize, bool);

fn specificity(route: &RouteSpec, host: &str, path: &str, method: Method) -> Option<Specificity> {
    let (kind, labels) = match &route.host {
        HostPattern::Exact(name) if name == host => (2, 0),
        HostPattern::Below(parent) if host.ends_with(&format!(".{parent}")) => (1, parent.len()),
        HostPattern::Any => (0, 0),
        HostPattern::Exact(_) | HostPattern::Below(_) => return None,
    };
    let (exact, length) = match &route.path {
        PathPattern::Exact(known) if known == path => (true, 0),
        PathPattern::Prefix(known) if path == known || path.starts_with(&format!("{known}/")) => (false, known.len()),
        PathPattern::Exact(_) | PathPattern::Prefix(_) => return None,
    };
    if route.methods.is_some_and(|methods| !methods.contains(method)) {
        return None;
    }
    Some((kind, labels, exact, length, route.methods.is_some()))
}
