//! The phases of the demo.

/// One phase.
#[derive(Debug)]
pub(crate) struct Phase {
    /// What happens, and what that does to the clients.
    pub(crate) title: &'static str,
    /// What it begins with.
    pub(crate) event: Event,
    /// Whether no lawful region is left to some clients, so that they must be refused. In every
    /// other phase each single request must succeed.
    pub(crate) refuses: bool,
}

/// What a phase begins with.
#[derive(Debug)]
pub(crate) enum Event {
    /// Nothing: it is the first.
    Start,
    /// A region dies.
    Kill(&'static str),
    /// All regions come back; the phase begins once the ingress has seen that.
    Revive,
}

/// All of them, in order.
pub(crate) static PHASES: [Phase; 5] = [
    Phase {
        title: "All regions are up: US clients in us-east-1, EU in eu-west-1",
        event: Event::Start,
        refuses: false,
    },
    Phase {
        title: "us-east-1 is killed: US clients go on in us-west-2",
        event: Event::Kill("us-east-1"),
        refuses: false,
    },
    Phase {
        title: "eu-west-1 is killed too: EU clients go on in eu-central-1",
        event: Event::Kill("eu-west-1"),
        refuses: false,
    },
    Phase {
        title: "eu-central-1 is killed too: EU clients are refused",
        event: Event::Kill("eu-central-1"),
        refuses: true,
    },
    Phase { title: "All regions are back, and all clients where they were", event: Event::Revive, refuses: false },
];
