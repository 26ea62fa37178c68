//! What the demo has shown, and whether it is what it promises.

use std::fmt;

use anyhow::anyhow;
use loadtest::Report;

use crate::Failed;
use crate::admin::Admin;
use crate::ledger::{Counts, Fate};
use crate::origins::Origins;

/// The figures of a whole demo.
#[derive(Debug)]
pub(crate) struct Summary {
    counts: Counts,
    report: Report,
    /// Personal requests of confined clients, as the origins in the EU counted them.
    inside: u64,
    /// The same at the origins outside the EU.
    outside: u64,
    /// Refusals for want of a lawful region, as the ingress counted them.
    refused_by_ingress: u64,
    /// Answers from a region without permission, as the ingress counted them.
    violations: u64,
}

impl Summary {
    /// Collects the figures, after the fleet's last request.
    pub(crate) async fn of(counts: Counts, report: Report, origins: &Origins, admin: &Admin) -> anyhow::Result<Self> {
        Ok(Self {
            counts,
            report,
            inside: origins.confined(true),
            outside: origins.confined(false),
            refused_by_ingress: admin.counter("http_errors_total", "reason=\"residency_unavailable\"").await?,
            violations: admin.counter("data_residency_violations_total", "").await?,
        })
    }

    /// Whether everything went as it must.
    pub(crate) fn verdict(&self) -> Result<(), Failed> {
        let (failed, refused) = (self.counts.failed(), self.refused());
        let first = self.counts.first_failure.as_deref().unwrap_or_default();
        let broken = if self.outside + self.violations > 0 {
            format!("{} requests went where the law forbids", self.outside + self.violations)
        } else if failed > 0 {
            format!("{failed} requests failed that must not have; the first: {first}")
        } else if self.refused_by_ingress < refused {
            format!("{refused} requests got a 503, of which {} for residency", self.refused_by_ingress)
        } else if refused == 0 || self.inside == 0 {
            // Then the zeros above prove nothing.
            "no EU client was served and then refused; try a higher --rate or a slower --pace".to_owned()
        } else {
            return Ok(());
        };
        Err(Failed::Ran(anyhow!("the demo is not what it must be: {broken}")))
    }

    fn refused(&self) -> u64 {
        self.counts.count(|_, fate| fate == Fate::Refused)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { duration, latency, .. } = &self.report;
        let ms = |latency: std::time::Duration| latency.as_secs_f64() * 1e3;
        let (p50, p99) = (ms(latency.p50), ms(latency.p99));
        let (counts, inside, outside) = (&self.counts, self.inside, self.outside);
        writeln!(f, "Summary")?;
        writeln!(
            f,
            "  {:<9} requests in {:.1} s over TLS and HTTP/2; p50 {p50:.1} ms, p99 {p99:.1} ms",
            counts.requests(),
            duration.as_secs_f64()
        )?;
        writeln!(f, "  {:<9} failed", counts.failed())?;
        writeln!(f, "  {:<9} met a dying region and were answered by the next lawful one", counts.failovers)?;
        writeln!(f, "  {:<9} refused while no lawful region was up: 503 residency_unavailable", self.refused())?;
        let cut_off = counts.count(|_, fate| fate == Fate::CutOff);
        if cut_off > 0 {
            writeln!(f, "  {cut_off:<9} lost with the last lawful region, which had them as it died: 502")?;
        }
        writeln!(f, "  {outside:<9} requests with personal data of EU clients (or of unknown ones) reached an")?;
        writeln!(f, "  {:<9} origin outside the EU, by the origins' own records; {inside} reached one inside", "")
    }
}
