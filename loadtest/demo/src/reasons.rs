//! Why clients go where they go, by the ingress's own word.

use std::cmp::Reverse;

use crate::admin::{Admin, Explained, RegionExplained, Why};
use crate::clients::GROUPS;
use crate::fleet::{PERSONAL, PUBLIC};
use crate::ledger::Traffic;

/// A reason for each kind of traffic, those that are alike together.
#[derive(Debug, Default)]
pub(crate) struct Reasons(pub(crate) Vec<Reason>);

/// Why some traffic goes where it goes.
#[derive(Debug)]
pub(crate) struct Reason {
    /// The traffic.
    pub(crate) of: Vec<Traffic>,
    /// Where it goes, first to last; or how it is refused.
    pub(crate) order: String,
    /// The rule behind that, with its line in the routing table.
    pub(crate) because: String,
}

impl Reasons {
    /// Asks the ingress how it would decide now.
    pub(crate) async fn ask(admin: &Admin) -> anyhow::Result<Self> {
        let mut reasons = Self::default();
        for group in &GROUPS {
            let explained = admin.explain(group.address(0), PERSONAL).await?;
            reasons.learn(Traffic::Personal(group.code), &explained);
        }
        // Whose request it is makes no difference here. So it is asked for one whose does elsewhere.
        if let Some(group) = GROUPS.iter().find(|group| group.confined) {
            reasons.learn(Traffic::Public, &admin.explain(group.address(0), PUBLIC).await?);
        }
        Ok(reasons)
    }

    fn learn(&mut self, traffic: Traffic, explained: &Explained) {
        let (order, because) = (order(explained), because(explained));
        match self.0.iter_mut().find(|known| known.order == order && known.because == because) {
            Some(known) => known.of.push(traffic),
            None => self.0.push(Reason { of: vec![traffic], order, because }),
        }
    }
}

fn order(explained: &Explained) -> String {
    match explained.order.as_slice() {
        [] => format!("{} {}", explained.status, explained.reason.as_deref().unwrap_or_default()),
        [only] => only.clone(),
        [first, second] => format!("{first} > {second}"),
        [first, second, more @ ..] => {
            let two = format!("{first} > {second} +{}", more.len());
            if two.len() <= ORDER { two } else { format!("{first} +{}", more.len() + 1) }
        }
    }
}

/// How wide an order is at most.
pub(crate) const ORDER: usize = 29;

/// The first reason for the first choice, with the regions that would come before it but are down;
/// or the first reason that a refusal keeps a region out.
fn because(explained: &Explained) -> String {
    let find = |name: &String| explained.regions.iter().find(|region| region.name == *name);
    let Some(first) = explained.order.first().and_then(find) else {
        let kept_out = explained.regions.iter().find(|region| !region.allowed);
        return kept_out.and_then(|region| region.why.first()).map_or_else(String::new, words);
    };
    let place = |region: &RegionExplained| (region.level, Reverse(region.score as u32));
    let before = |region: &&RegionExplained| region.allowed && !region.eligible && place(region) < place(first);
    let down: Vec<&str> = explained.regions.iter().filter(before).map(|region| region.name.as_str()).collect();
    let why = first.why.first().map_or_else(String::new, words);
    if down.is_empty() { why } else { format!("{why}; {} down", down.join(", ")) }
}

fn words(Why { rule, line, effect }: &Why) -> String {
    // Which of the two it is can be seen from the order.
    let effect = effect.trim_start_matches("allowed: ").trim_start_matches("refused: ");
    match (line, rule.as_str()) {
        (Some(line), rule) => format!("{rule} (line {line}): {effect}"),
        (None, "residency") => effect.to_owned(),
        (None, rule) => format!("{rule}: {effect}"),
    }
}
