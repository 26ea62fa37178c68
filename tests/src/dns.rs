//! A name server of a test's own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A running name server, over UDP. It stops when it is dropped.
pub struct Dns {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// What it says of a name's IPv4 addresses; of IPv6 there are never any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// These, for a second.
    Addresses(Vec<Ipv4Addr>),
    /// That it cannot say: SERVFAIL.
    Failure,
    /// Not a word.
    Nothing,
}

#[derive(Default)]
struct State {
    /// A name that is not here does not exist.
    names: HashMap<String, Says>,
    /// Questions for IPv4 addresses.
    questions: u64,
}

impl Dns {
    /// Starts without any names.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Dns {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let task = tokio::spawn(serve(socket, state.clone()));
        Dns { address, state, task }
    }

    /// From now on it says this of a name.
    pub fn set(&self, name: &str, says: Says) {
        lock(&self.state).names.insert(name.to_owned(), says);
    }

    /// From now on these are a name's addresses.
    pub fn point(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.set(name, Says::Addresses(addresses.to_vec()));
    }

    /// From now on there is no such name.
    pub fn remove(&self, name: &str) {
        lock(&self.state).names.remove(name);
    }

    /// How many questions for IPv4 addresses have come.
    pub fn questions(&self) -> u64 {
        lock(&self.state).questions
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut packet = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
        let Some(answer) = answer(&packet[..length], &state) else { continue };
        // A node that is gone needs no answer.
        let _ = socket.send_to(&answer, peer).await;
    }
}

/// The answer to a query with one question (RFC 1035, 4.1).
fn answer(query: &[u8], state: &Mutex<State>) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut at = HEADER;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        name.push(std::str::from_utf8(&query[at + 1..=at + length]).expect("a name in ASCII").to_lowercase());
        at += length + 1;
    }
    let question = &query[HEADER..at + 5];
    let is_ipv4 = query[at + 1..at + 3] == [0, A];
    let mut state = lock(state);
    state.questions += u64::from(is_ipv4);
    let (code, addresses) = match state.names.get(&name.join(".")).cloned() {
        None => (NO_SUCH_NAME, Vec::new()),
        Some(Says::Nothing) => return None,
        Some(Says::Failure) => (SERVER_FAILURE, Vec::new()),
        Some(Says::Addresses(addresses)) => (0, if is_ipv4 { addresses } else { Vec::new() }),
    };
    let mut answer = query[..2].to_vec();
    let count = u8::try_from(addresses.len()).expect("a few addresses");
    // A response, authoritative; recursion desired and available; one question.
    answer.extend([0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    for address in addresses {
        // The question's name; an IPv4 address of the Internet; for one second; four bytes.
        answer.extend([0xc0, HEADER as u8, 0, A, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

const HEADER: usize = 12;
const A: u8 = 1;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
