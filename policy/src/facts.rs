//! What a decision knows of one request.

use crate::client_way::ClientAt;
use crate::jurisdiction::JurisdictionId;
use crate::origin::Origin;
use crate::pressure::Criticality;
use crate::region::RegionId;
use crate::route::{Method, Payload};

/// The facts of one request, as the node that received it established them. Region ids are of the
/// table that the request is first decided under.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The host asked for, in lower case, without port or final dot.
    pub host: &'a str,
    /// The path without query, percent-encoded unreserved characters decoded, slashes merged.
    pub path: &'a str,
    /// The method.
    pub method: Method,
    /// What the client sends after the head.
    pub payload: Payload,
    /// Where the client may be.
    pub origin: Origin,
    /// Jurisdictions that a trusted source declares for the request's tenant: their rules hold too,
    /// wherever the client is.
    pub declared: &'a [JurisdictionId],
    /// Whether a trusted source says that the client consented: the header or the claim that its
    /// route names.
    pub consent: bool,
    /// The hash of the client's identity: see [`crate::hash::client_key`].
    pub client_key: u64,
    /// Where its coordinates are, if they are known: they have a part in the score of a route that goes by clients'
    /// latency, and in nothing else. By the ids of the same table.
    pub client_at: Option<ClientAt<'a>>,
    /// The region of the node that decides.
    pub from: RegionId,
    /// The region that the client is pinned to.
    pub pinned: Option<RegionId>,
    /// The only region that may serve: set when another node has already chosen this one, so that
    /// two nodes with different views never pass a request to and fro.
    pub only: Option<RegionId>,
    /// How critical a trusted source says that the request is; it only counts where that is less than its route says.
    pub criticality: Option<Criticality>,
}
