//! The demo's course: phase by phase, before the user's eyes.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::admin::{Admin, NotUp};
use crate::ledger::Ledger;
use crate::origins::Origins;
use crate::phases::{Event, PHASES};
use crate::picture::Scene;
use crate::rates::Rates;
use crate::reasons::Reasons;
use crate::report;
use screen::{Ink, Screen, Tone, write};

/// What the story is told with.
pub(crate) struct Story<'a> {
    origins: &'a Origins,
    admin: &'a Admin,
    ledger: &'a RefCell<Ledger>,
    /// Where the picture is drawn; without it each phase is reported at its end.
    screen: Option<Screen>,
    started: Instant,
    rates: Rates,
    reasons: Reasons,
    not_up: Vec<NotUp>,
}

impl<'a> Story<'a> {
    /// A story about these parts, from now on.
    pub(crate) fn new(
        origins: &'a Origins,
        admin: &'a Admin,
        ledger: &'a RefCell<Ledger>,
        screen: Option<Screen>,
    ) -> Self {
        let (rates, reasons, not_up) = (Rates::default(), Reasons::default(), Vec::new());
        Self { origins, admin, ledger, screen, started: Instant::now(), rates, reasons, not_up }
    }

    /// Tells it to its end.
    pub(crate) async fn tell(mut self, phase_length: Duration) -> anyhow::Result<()> {
        for (index, phase) in PHASES.iter().enumerate() {
            let note = self.begin(&phase.event).await?;
            let end = Instant::now() + phase_length;
            while Instant::now() < end {
                self.tick().await?;
            }
            if self.screen.is_none() {
                let reasons = Reasons::ask(self.admin).await?;
                let ledger = self.ledger.borrow();
                let block = ledger.phases().get(index).map(|counts| report::block(index, counts, &reasons, &note));
                write(&format!("{}\n", block.unwrap_or_default()))?;
            }
        }
        // Who has seen the picture needs no more than the counts.
        if let Some(screen) = self.screen {
            drop(screen);
            let ledger = self.ledger.borrow();
            let rows = ledger.phases().iter().enumerate();
            let rows = rows.map(|(index, counts)| report::row(index, counts, Ink::Plain, Tone::Normal) + "\n");
            write(&format!("{:>width$}\n{}\n", report::heads(), rows.collect::<String>(), width = report::WIDTH))?;
        }
        Ok(())
    }

    /// Lets a phase's event happen, and opens the phase. Gives what there is to say about that.
    async fn begin(&mut self, event: &Event) -> anyhow::Result<String> {
        match event {
            Event::Start => self.ledger.borrow_mut().enter(),
            Event::Kill(region) => {
                self.ledger.borrow_mut().enter();
                self.origins.kill(region).await;
            }
            Event::Revive => return self.revive().await,
        }
        Ok(String::new())
    }

    /// Brings all regions back, and waits until the ingress has seen it.
    async fn revive(&mut self) -> anyhow::Result<String> {
        let refused = self.ledger.borrow().total().refused();
        let revived = Instant::now();
        self.origins.revive().await.context("an origin does not come back")?;
        loop {
            self.tick().await?;
            self.not_up = self.admin.not_up().await?;
            if self.not_up.is_empty() {
                break;
            }
            let missing: Vec<&str> = self.not_up.iter().map(|not_up| not_up.region.as_str()).collect();
            let missing = missing.join(", ");
            ensure!(revived.elapsed() < PATIENCE, "{missing} came back, but the ingress does not see it");
        }
        let mut ledger = self.ledger.borrow_mut();
        let more = ledger.total().refused() - refused;
        ledger.enter();
        let seconds = revived.elapsed().as_secs_f64();
        Ok(format!(
            "  all had their clients again after {seconds:.1} s, 10 and 50 % of them on the way; {more} more were refused\n"
        ))
    }

    /// Lets the show go on for a moment.
    async fn tick(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(TICK).await;
        let Some(screen) = &self.screen else { return Ok(()) };
        self.reasons = Reasons::ask(self.admin).await?;
        self.not_up = self.admin.not_up().await?;
        let ledger = self.ledger.borrow();
        self.rates.note(Instant::now(), ledger.total());
        let scene = Scene {
            ledger: &ledger,
            rates: &self.rates,
            origins: self.origins,
            not_up: &self.not_up,
            reasons: &self.reasons,
            elapsed: self.started.elapsed(),
        };
        Ok(screen.draw(&scene.lines(screen.ink()))?)
    }
}

/// Five pictures a second.
const TICK: Duration = Duration::from_millis(200);
/// The regions are probed every second, and come back in steps of two.
const PATIENCE: Duration = Duration::from_secs(20);
