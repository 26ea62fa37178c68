//! What an operator switches off in an incident: requests that are sheddable, writes, routes.
//!
//! An emergency refuses, and does nothing else: what it does not refuse is decided as without it.
//!
//! | `[emergency]` | refuses | with |
//! |---|---|---|
//! | `routes_off` | every request of these routes | [`Reason::EmergencyRouteOff`] |
//! | `read_only` | writes of everybody, or of the clients of some jurisdictions | [`Reason::EmergencyReadOnly`] |
//! | `shed` | requests that are so critical, or less | [`Reason::EmergencyShed`] |
//!
//! Where several of them refuse a request, the first in this order is its reason.
//!
//! Who is a client of a jurisdiction is what the residency rules take it for, and who may be one is one: a client
//! who may be in one of its countries, one of a country that it has had so far, one of a tenant that declares it, or
//! declares a jurisdiction that shares a country with it.
//! An unknown client may be anywhere, unless `unknown_origin` says in which jurisdictions unknown clients are taken to
//! be. A client in countries of no named jurisdiction goes on writing.

use std::sync::Arc;

use crate::country::CountrySet;
use crate::facts::Facts;
use crate::jurisdiction::{Jurisdiction, JurisdictionId, UnknownOrigin};
use crate::moment::{LawTime, Moment};
use crate::origin::Origin;
use crate::pressure::Criticality;
use crate::region::Access;
use crate::route::{Route, RouteId};
use crate::verdict::{Reason, Refusal};

/// What a table says of an emergency.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmergencySpec {
    /// Requests of this criticality, and of less, are refused.
    pub shed: Option<Criticality>,
    /// Whose writes are refused.
    pub read_only: Option<ReadOnly>,
    /// The routes that are switched off.
    pub routes_off: Vec<RouteId>,
    /// What people see instead of the page of Meridian.
    pub page: Option<Arc<str>>,
    /// When it is over.
    pub until: Option<Moment>,
}

/// Whose writes are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// Everybody's.
    All,
    /// Those of the clients of these jurisdictions.
    Of(Vec<JurisdictionId>),
}

impl EmergencySpec {
    /// Returns whether it is in force. While the time is in doubt, it is.
    pub fn is_in_force(&self, at: LawTime) -> bool {
        self.until.is_none_or(|until| !at.has_reached(until))
    }
}

/// An emergency that is in force, compiled for decisions.
#[derive(Clone, Debug)]
pub struct Emergency {
    shed: Option<Criticality>,
    writes: Option<Writes>,
    /// By [`RouteId`].
    off: Box<[bool]>,
    page: Option<Arc<str>>,
}

/// Whose writes are refused.
#[derive(Clone, Debug)]
enum Writes {
    All,
    Of {
        /// By [`JurisdictionId`].
        declared: Box<[bool]>,
        countries: CountrySet,
        unknown: bool,
    },
}

/// What an emergency asks of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'a> {
    /// Whether it reads or writes.
    pub access: Access,
    /// Where the client may be.
    pub origin: &'a Origin,
    /// The jurisdictions that its route and a trusted source declare for its tenant.
    pub declared: [&'a [JurisdictionId]; 2],
    /// How critical it is.
    pub criticality: Criticality,
}

impl<'a> Asks<'a> {
    /// Returns what is to be known of a request.
    pub fn of(route: &'a Route, facts: &'a Facts<'_>) -> Self {
        Self {
            access: route.access(facts.method, facts.payload),
            origin: &facts.origin,
            declared: [&route.spec.jurisdictions, facts.declared],
            criticality: route.criticality(facts.criticality),
        }
    }
}

impl Emergency {
    /// Compiles what a table says of `routes` routes; `None` once it is over.
    pub(crate) fn new(
        spec: &EmergencySpec,
        at: LawTime,
        jurisdictions: &[Jurisdiction],
        unknown_origin: &UnknownOrigin,
        routes: usize,
    ) -> Option<Self> {
        if !spec.is_in_force(at) {
            return None;
        }
        let writes = spec.read_only.as_ref().map(|read_only| match read_only {
            ReadOnly::All => Writes::All,
            ReadOnly::Of(named) => {
                let mut countries = CountrySet::default();
                let known = |id: &JurisdictionId| jurisdictions.get(id.0);
                named.iter().filter_map(known).for_each(|one| countries.extend(one.countries.so_far()));
                let meets =
                    |one: &Jurisdiction| one.countries.so_far().iter().any(|country| countries.contains(country));
                let unknown = match unknown_origin {
                    UnknownOrigin::Strictest | UnknownOrigin::Refuse => true,
                    // They are taken for clients who may be in any of these countries.
                    UnknownOrigin::Like(like) => {
                        like.iter().any(|id| named.contains(id) || known(id).is_some_and(meets))
                    }
                };
                // A tenant of Germany is one of the Union.
                let is_named = |(id, one)| named.contains(&JurisdictionId(id)) || meets(one);
                let declared = jurisdictions.iter().enumerate().map(is_named).collect();
                Writes::Of { declared, countries, unknown }
            }
        });
        let mut off = vec![false; routes].into_boxed_slice();
        for id in &spec.routes_off {
            if let Some(off) = off.get_mut(id.0 as usize) {
                *off = true;
            }
        }
        Some(Self { shed: spec.shed, writes, off, page: spec.page.clone() })
    }

    /// Returns the refusal of a request of a route; `None` for one that is decided as without an emergency.
    pub(crate) fn refusal(&self, id: RouteId, asks: &Asks<'_>) -> Option<Refusal> {
        let reason = self.reason(id, asks)?;
        Some(Refusal { reason, route: Some(id), page: self.page.clone(), blocked_by: None })
    }

    fn reason(&self, id: RouteId, asks: &Asks<'_>) -> Option<Reason> {
        if self.off.get(id.0 as usize).is_some_and(|off| *off) {
            return Some(Reason::EmergencyRouteOff);
        }
        if asks.access == Access::Write && self.writes.as_ref().is_some_and(|writes| writes.are_of(asks)) {
            return Some(Reason::EmergencyReadOnly);
        }
        self.shed.is_some_and(|shed| asks.criticality <= shed).then_some(Reason::EmergencyShed)
    }
}

impl Writes {
    fn are_of(&self, asks: &Asks<'_>) -> bool {
        let Writes::Of { declared, countries, unknown } = self else { return true };
        let may_be_there = match asks.origin {
            Origin::Country(country) => countries.contains(*country),
            Origin::Countries(all) if !all.is_empty() => all.iter().any(|country| countries.contains(country)),
            Origin::Countries(_) | Origin::Unknown => *unknown,
        };
        may_be_there
            || asks.declared.into_iter().flatten().any(|id| declared.get(id.0).is_some_and(|is_named| *is_named))
    }
}
