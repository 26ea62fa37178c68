//! Who has the writes of each primary and the standby that takes them over, with the watch's tick.

mod kept;

use std::time::Duration;

use policy::health::{Claim, Fleet, Gate, Holder, Pair, Phase, Side, Word, Writer};
use policy::region::AdminState;
use policy::table::WritePair;
use policy::{RegionId, Withheld, Writes};

use crate::clock::uptime;
use crate::health::region::WriterState;
use crate::node::Node;
use crate::routing::Routing;
use kept::KeptTerm;
pub(super) use kept::KeptTerms;

/// Finds out who has the writes of every standby that takes them over and its primary, shows it to decisions and in the
/// metrics, and says where it changes.
pub(super) fn follow_writers(node: &Node, routing: &Routing, kept: &mut KeptTerms) {
    let table = routing.table();
    let now = uptime();
    let mut paired: Vec<RegionId> = Vec::new();
    for settings in table.write_pairs() {
        let (primary, standby) = (&table.region(settings.primary).name, &table.region(settings.standby).name);
        let words = node.inbox.writer_words(primary, standby, now);
        let remembered = kept.of(primary, standby);
        let remembered = remembered.map(|kept| Writer::remembering(kept.term, kept.has_spoken, now));
        let pair = seen(node, routing, &settings, remembered.as_ref(), &words, now);
        let fenced = pair.fleet.is_some();
        let cell = &routing.region(settings.standby).state;
        let (before, state) = cell.observe_writer(primary, pair, &settings, remembered, |writer| {
            let term = writer.term().filter(|_| fenced);
            term.is_none_or(|term| {
                let (primary, has_spoken) = (primary.clone(), writer.has_spoken());
                kept.keep(standby, KeptTerm { primary, term, has_spoken })
            })
        });
        let gate = if state.is_kept { state.writer.gate() } else { Gate::Nobody(Withheld::Unsaved) };
        let (before, after) = (before.map(|before| before.writer), state.writer);
        for (id, holder) in [(settings.primary, Holder::Primary), (settings.standby, Holder::Standby)] {
            let writes = gate.writes(holder);
            routing.region(id).state.set_writes(writes);
            let name = table.region(id).name.as_str();
            node.telemetry.metrics.region_writer.with_label_values(&[name]).set((writes == Writes::Granted).into());
        }
        node.telemetry.metrics.split_brain.with_label_values(&[standby]).set(after.is_split().into());
        if before.is_none() && pair.fleet.is_none() {
            tracing::warn!(primary, standby, "{UNFENCED}");
        }
        if before.is_none() && fenced && !kept.has_place() {
            tracing::warn!(primary, standby, "{FORGETFUL}");
        }
        if before.is_none() && fenced && node.peers.load().authorities.is_none() {
            tracing::warn!(primary, standby, "{TRUSTING}");
        }
        tell((primary, standby), before, &state);
        paired.extend([settings.primary, settings.standby]);
    }
    for (_, region, cell) in routing.regions().filter(|(id, ..)| !paired.contains(id)) {
        if cell.state.writes() != Writes::AsDeclared {
            cell.state.set_writes(Writes::AsDeclared);
            tracing::info!(region = region.name, "writes go by the table alone");
        }
        cell.state.forget_writer();
    }
}

/// What a node that hears no fleet says of itself.
pub(crate) const UNFENCED: &str = "standby.writes has no effect here: without a config bus, and [peers] by which the \
                                   nodes sign what they say on it, no majority of the fleet can be told from one node";

/// What a node that keeps nothing says of itself.
const FORGETFUL: &str = "without routing.bus.snapshot this node forgets at its end who has the writes: start the nodes of the \
                         fleet anew one after the other only";

/// What a node says of itself whose fleet has a secret and no certificates.
const TRUSTING: &str = "with peers.secret_file alone each node can speak for all others, and so have the writes change hands by \
                        itself: give nodes certificates (peers.certificate_authorities)";

/// Puts together what is known of a primary and its standby.
fn seen(
    node: &Node,
    routing: &Routing,
    settings: &WritePair,
    remembered: Option<&Writer>,
    words: &[Word],
    now: Duration,
) -> Pair {
    let is_signed = node.peers.load().has_signed_messages();
    let table = routing.table();
    let known = routing.region(settings.standby).state.writer();
    let known = known.filter(|state| state.primary == table.region(settings.primary).name);
    let own = match known.as_ref().filter(|state| state.pair.fleet.is_some()) {
        Some(state) => state.writer.term(),
        None => remembered.or(known.as_ref().map(|state| &state.writer)).and_then(Writer::term),
    };
    let fleet = node.bus.as_ref().filter(|_| is_signed).map(|bus| {
        let known = bus.members.known_with(&bus.node).max(settings.takes.voters as usize);
        Fleet::of(known, words, own)
    });
    let side = |id: RegionId, votes: usize| {
        let cell = routing.region(id);
        Side {
            // What the operator has taken out of service takes no writes either.
            is_down: cell.state.phase() == Phase::Down || table.region(id).state != AdminState::Serving,
            is_asked: cell.is_asked(),
            claim: cell.claim(),
            claimed_at: cell.claimed_at().unwrap_or_default(),
            lag: cell.lag_word(now),
            votes,
        }
    };
    let votes = |is_lost: fn(&&Word) -> bool| words.iter().filter(is_lost).count();
    Pair {
        primary: side(settings.primary, votes(|word| word.primary_lost)),
        standby: side(settings.standby, votes(|word| word.standby_lost)),
        fleet,
    }
}

/// Logs who has the writes, where that has changed, and where two regions begin or cease to say that they are primary.
fn tell((primary, standby): (&str, &str), before: Option<Writer>, now: &WriterState) {
    let WriterState { writer, pair, .. } = now;
    let claim = |side: &Side| side.claim.map_or("unknown", Claim::name);
    let (primary_says, standby_says) = (claim(&pair.primary), claim(&pair.standby));
    let (votes, known) = (pair.votes(writer.presumed()), pair.fleet.map_or(0, |fleet| fleet.known));
    let (term, was) = (writer.term(), before.and_then(|before| before.holder()));
    if let Some(holder) = writer.holder().filter(|holder| was.is_some_and(|was| was != *holder)) {
        let to = match holder {
            Holder::Primary => primary,
            Holder::Standby => standby,
        };
        tracing::warn!(to, primary, standby, term, primary_says, standby_says, "writes change hands");
    }
    if before.is_none_or(|before| before.gate() != writer.gate()) {
        match writer.gate() {
            Gate::To(_) if before.is_none_or(|before| before.holder().is_none()) => {}
            Gate::To(holder) => {
                let to = holder.name();
                tracing::warn!(primary, standby, to, term, votes, known, "writes are served");
            }
            Gate::Nobody(policy::Withheld::Starting) => {}
            Gate::Nobody(why) => {
                let why = why.name();
                tracing::warn!(
                    primary,
                    standby,
                    why,
                    term,
                    votes,
                    known,
                    primary_says,
                    standby_says,
                    "writes are refused"
                );
            }
        }
    }
    let was_split = before.is_some_and(|before| before.is_split());
    if writer.is_split() && !was_split {
        let holder = writer.presumed().name();
        tracing::error!(primary, standby, holder, term, "split brain: both regions say that they are primary");
    } else if was_split && !writer.is_split() {
        tracing::warn!(
            primary,
            standby,
            primary_says,
            standby_says,
            "the split brain is over: one region says that it is primary"
        );
    }
}
