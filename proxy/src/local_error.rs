//! Errors of this machine: what the node lacks, and no other machine is at fault for.

use std::io;

/// What the node lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalError {
    /// Descriptors: of the process (EMFILE) or of the machine (ENFILE).
    Descriptors,
    /// Addresses or ports to connect from (EADDRNOTAVAIL).
    Ports,
    /// Memory, or buffers of the kernel's (ENOMEM, ENOBUFS).
    Memory,
    /// Permission: a firewall of this machine, or a security module, forbids it (EACCES, EPERM).
    Permission,
}

impl LocalError {
    /// Returns whether the node lacks it whomever it connects to. Ports run out for each destination by itself, and a
    /// firewall forbids some: another endpoint may be had.
    pub(crate) fn is_of_all(self) -> bool {
        matches!(self, Self::Descriptors | Self::Memory)
    }

    /// Returns what an error of the operating system says that the node lacks, if it is that.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EMFILE | libc::ENFILE => Some(Self::Descriptors),
            libc::EADDRNOTAVAIL => Some(Self::Ports),
            libc::ENOMEM | libc::ENOBUFS => Some(Self::Memory),
            libc::EACCES | libc::EPERM => Some(Self::Permission),
            _ => None,
        }
    }

    /// Returns the word for metrics for an error of the operating system; `other` where the node lacks nothing.
    pub(crate) fn name_of(error: &io::Error) -> &'static str {
        Self::of(error).map_or("other", Self::name)
    }

    /// Returns the word for metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Ports => "ports",
            Self::Memory => "memory",
            Self::Permission => "permission",
        }
    }
}
