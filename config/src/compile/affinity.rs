//! `[affinity]`: the key that cookies are signed with.

use policy::affinity::AffinityKey;
use policy::route::{Affinity, RouteSpec};

use crate::field::Section;

/// Returns the table's key. Without a secret the key is derived from the table's text: the same on every node,
/// unknown to clients, and new with each revision.
pub(super) fn key(root: &Section<'_>, text: &str, routes: &[RouteSpec]) -> AffinityKey {
    let section = root.field("affinity").and_then(|field| field.section(&["secret"]));
    let is_secret = |secret: &str| (32..=1024).contains(&secret.len());
    let secret = section.as_ref().and_then(|section| section.required("secret", REMEDY));
    let secret = secret.and_then(|field| field.text_that(is_secret, "is not a secret of 32 letters or more"));
    let by_cookie = routes.iter().position(|route| matches!(route.affinity, Affinity::Cookie(_)));
    if let (None, Some(index)) = (&section, by_cookie)
        && let Some(field) = root.field("routes").and_then(|list| list.peek_list()?.into_iter().nth(index))
    {
        field.warning(format!("its cookies end with each revision of the table: {REMEDY}"));
        let regions = root.field("regions").and_then(|field| field.peek_section());
        let states =
            regions.iter().flat_map(Section::fields).filter_map(|region| region.peek_section()?.field("state"));
        for state in states.filter(|state| state.peek_text() == Some("draining")) {
            state.warning(format!(
                "the clients that are pinned here lose their pins by this very edit, as its cookies end: first {REMEDY}, \
                 and drain in a later edit"
            ));
        }
    }
    AffinityKey::new(secret.unwrap_or(text).as_bytes())
}

const REMEDY: &str = "give [affinity] secret = \"…\" of 32 letters or more, as from `openssl rand -hex 32`";
