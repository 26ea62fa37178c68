//! The client fleet: clients of many countries, all played by one load generator.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use loadtest::{Observation, Outcome, Plan, Protocol, Report, RequestSpec, Target, Tls};

use crate::clients::{self, Client};
use crate::ledger::{Fate, Ledger, Traffic};
use crate::phases::PHASES;
use crate::regions;

/// Paths from here on carry personal data.
pub(crate) const PERSONAL: &str = "/v3/";
/// Paths from here on carry nothing of anybody.
pub(crate) const PUBLIC: &str = "/public/";

/// Sends requests to the ingress at a fixed rate until `stop`, and enters each of them.
pub(crate) async fn drive(
    ingress: SocketAddr,
    rate: u32,
    ledger: &RefCell<Ledger>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Report> {
    let tls = Tls::danger_accept_any_certificate(HOST)?;
    let target = Target { address: ingress, protocol: Protocol::Http2, tls: Some(tls) };
    let plan = Plan { connections: CONNECTIONS, ..Plan::new(target, f64::from(rate), Duration::MAX) };
    let fleet = Fleet { clients: clients::all() };
    let next = |sequence| fleet.request(sequence, ledger.borrow().phase());
    let observe = |observation: &Observation| fleet.enter(observation, &mut ledger.borrow_mut());
    Ok(loadtest::run_until(&plan, stop, next, observe).await?)
}

struct Fleet {
    clients: Vec<Client>,
}

impl Fleet {
    /// The request with this number. Its tag is the phase that it is sent in.
    fn request(&self, sequence: u64, phase: usize) -> RequestSpec {
        let Some((client, traffic)) = self.sender(sequence) else { return RequestSpec::get(HOST, "/") };
        let prefix = if traffic == Traffic::Public { PUBLIC } else { PERSONAL };
        let mut request = RequestSpec::get(HOST, format!("{prefix}hello"));
        request.headers.push(("x-forwarded-for".to_owned(), client.address.to_string()));
        request.tag = phase;
        request
    }

    /// Who sends the request with this number, and what for. Each client has its turn, in an order
    /// that mixes the countries; each sixth request is a public one.
    fn sender(&self, sequence: u64) -> Option<(&Client, Traffic)> {
        let number = (self.clients.len() as u64).max(1);
        let (round, turn) = (sequence / number, sequence % number);
        let client = self.clients.get((turn * STRIDE % number) as usize)?;
        // Shifted by one each round, so that a client's turns are not always of the same kind.
        let public = (round + turn).is_multiple_of(6);
        Some((client, if public { Traffic::Public } else { Traffic::Personal(client.group.code) }))
    }

    fn enter(&self, observation: &Observation, ledger: &mut Ledger) {
        let Some((client, traffic)) = self.sender(observation.sequence) else { return };
        let (sent, ended) = (observation.tag, ledger.phase());
        // A refusal is right if a phase that the request lived in wants it, and belongs there.
        let refusing = [sent, ended].into_iter().find(|phase| PHASES.get(*phase).is_some_and(|phase| phase.refuses));
        let confined = client.group.confined && traffic != Traffic::Public;
        let refusing = refusing.filter(|_| confined);
        let (phase, fate, failure) = match (&observation.outcome, refusing) {
            (Outcome::Answered { status: 200, region: Some(region), .. }, _) => match regions::known(region) {
                Some(region) => (sent, Fate::Served(region), None),
                None => (sent, Fate::Failed, Some(format!("answered by {region:?}, which is no region"))),
            },
            (Outcome::Answered { status: 503, region: None, .. }, Some(phase)) => (phase, Fate::Refused, None),
            (Outcome::Answered { status: 502, region: None, .. }, Some(phase)) => (phase, Fate::CutOff, None),
            (Outcome::Answered { status, .. }, _) => (sent, Fate::Failed, Some(format!("status {status}"))),
            (Outcome::Failed { kind, message }, _) => (sent, Fate::Failed, Some(format!("{kind}: {message}"))),
        };
        if let (Outcome::Answered { attempts: 2.., .. }, Fate::Served(_)) = (&observation.outcome, fate) {
            // The death that it met is that of the phase in which it ended.
            ledger.of_mut(ended).into_iter().for_each(|counts| counts.failovers += 1);
        }
        let Some(counts) = ledger.of_mut(phase) else { return };
        counts.add(traffic, fate);
        if let (None, Some(failure)) = (&counts.first_failure, failure) {
            let Client { group, address } = client;
            counts.first_failure = Some(format!("{} client {address}, {traffic:?}: {failure}", group.code));
        }
    }
}

const HOST: &str = "api.example.com";
const CONNECTIONS: usize = 8;
/// From one client's turn to the next one's: about the golden ratio of their number, which spreads
/// each country's evenly, and without a common divisor with it, which leaves nobody out.
const STRIDE: u64 = 123;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_client_asks_for_both_kinds_of_data() {
        let fleet = Fleet { clients: clients::all() };
        let rounds = (0..fleet.clients.len() as u64 * 6).filter_map(|sequence| fleet.sender(sequence));
        let seen: HashSet<_> = rounds.map(|(client, traffic)| (client.address, traffic == Traffic::Public)).collect();
        assert_eq!(seen.len(), 2 * fleet.clients.len());
    }
}
