//! A report for people.

use std::fmt;
use std::time::Duration;

use crate::{Latencies, Report};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { due, sent, answered, failed, .. } = self;
        writeln!(f, "rate        {:.1} requests/s of {:.1} offered", self.rate, self.offered_rate)?;
        writeln!(f, "duration    {:.2} s", self.duration.as_secs_f64())?;
        writeln!(f, "requests    {due} due, {sent} sent, {answered} answered, {failed} failed")?;
        writeln!(f, "connections {} opened, {} reconnects", self.connections, self.reconnects)?;
        writeln!(f, "bytes       {}", self.bytes)?;
        writeln!(f)?;
        writeln!(f, "{:<10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}", "ms", "p50", "p90", "p99", "p99.9", "max", "mean")?;
        times(f, "latency", &self.latency)?;
        times(f, "wait", &self.wait)?;
        writeln!(f)?;
        for (status, count) in &self.statuses {
            writeln!(f, "status {status:<17}{count:>10}{:>9.2} %", share(*count, *due))?;
        }
        for (kind, failure) in &self.failures {
            writeln!(
                f,
                "failed {kind:<17}{:>10}{:>9.2} %  {}",
                failure.count,
                share(failure.count, *due),
                failure.first
            )?;
        }
        for (region, count) in &self.regions {
            writeln!(f, "region {region:<17}{count:>10}{:>9.2} %", share(*count, *due))?;
        }
        if self.further_attempts > 0 {
            writeln!(f, "further attempts by the proxy: {}", self.further_attempts)?;
        }
        Ok(())
    }
}

fn times(f: &mut fmt::Formatter<'_>, name: &str, times: &Latencies) -> fmt::Result {
    write!(f, "{name:<10}")?;
    for time in [times.p50, times.p90, times.p99, times.p999, times.max, times.mean] {
        write!(f, "{:>10.2}", milliseconds(time))?;
    }
    writeln!(f)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn share(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
