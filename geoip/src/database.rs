//! One mmdb file, read into memory and verified.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader};
use thiserror::Error;

use crate::embedded;
use crate::schema::Record;
use crate::verify::{Damage, verify};

/// One geo database.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    reader: Reader<Vec<u8>>,
    has_coordinates: bool,
}

impl Database {
    /// Reads and verifies an mmdb file.
    ///
    /// The file is read rather than mapped: one changed in place under a map is undefined
    /// behaviour. Everything that look-ups read of it is verified, since the format's reader opens
    /// many a damaged file and fails only at the look-up; what look-ups do not read (descriptions,
    /// languages) is not.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let unreadable = |reason| DatabaseError::Unreadable { path: path.into(), reason };
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(DatabaseError::NotAFile { path: path.into() });
        }
        Self::from_bytes(path.into(), fs::read(path).map_err(unreadable)?)
    }

    /// Verifies the bytes of an mmdb file; `path` names them in errors and status.
    pub fn from_bytes(path: PathBuf, bytes: Vec<u8>) -> Result<Self, DatabaseError> {
        let verified = verify(&bytes).and_then(|contents| {
            let reader = Reader::from_source(bytes).map_err(Damage::Metadata)?;
            Ok((contents, reader))
        });
        match verified {
            Ok((contents, reader)) if contents.is_relevant => {
                Ok(Self { path, reader, has_coordinates: contents.has_coordinates })
            }
            Ok((_, reader)) => Err(DatabaseError::Irrelevant { path, kind: reader.metadata().database_type.clone() }),
            Err(reason) => Err(DatabaseError::Damaged { path, reason: reason.into() }),
        }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the publisher's name for the contents, such as `GeoLite2-City`.
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// Returns when the publisher built the contents, in seconds since the Unix epoch.
    pub fn build_epoch(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// Looks an address up in this database alone, after [`embedded()`](crate::embedded()); `None` for an address that
    /// is not listed, or an IPv6 address in an IPv4-only database.
    pub fn lookup(&self, address: IpAddr) -> Option<Record<'_>> {
        self.record(embedded(address))
    }

    /// Looks up an address in the form in which databases list it.
    pub(crate) fn record(&self, address: IpAddr) -> Option<Record<'_>> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return None;
        }
        // A value that is no record at all, such as a text, counts as none.
        self.reader.lookup(address).ok()?.decode().ok()?
    }

    /// Returns where the record of an address is, and how long the prefix is that shares it, in bits of the address's
    /// family; `None` for an IPv6 address in an IPv4-only database.
    pub(crate) fn find(&self, address: IpAddr) -> Result<Option<Found>, MaxMindDbError> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(None);
        }
        let found = self.reader.lookup(address)?;
        let network = found.network()?;
        // In a tree without IPv4 all of IPv4 is a part of an IPv6 network.
        let prefix_len = if network.is_ipv4() == address.is_ipv4() { network.prefix() } else { 0 };
        Ok(Some(Found { offset: found.offset(), prefix_len }))
    }

    /// Returns the number of nodes of the tree.
    pub fn nodes(&self) -> u64 {
        self.reader.metadata().node_count.into()
    }

    /// Returns whether some record says where it is, in degrees.
    pub fn has_coordinates(&self) -> bool {
        self.has_coordinates
    }

    /// Returns whether the database has IPv6 addresses.
    pub fn has_ipv6(&self) -> bool {
        self.reader.metadata().ip_version == 6
    }
}

/// Where the record of an address is.
pub(crate) struct Found {
    /// The offset in the file's data; `None` where the address has no record.
    pub(crate) offset: Option<usize>,
    /// The prefix length of the record's network.
    pub(crate) prefix_len: u8,
}

/// Why a file cannot serve as a geo database.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The file is missing or may not be read.
    #[error("cannot read the geo database {}: {reason}; check the path and its permissions", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// A directory, socket or device.
    #[error("the geo database {} is not a regular file; give the path of the .mmdb file itself", .path.display())]
    NotAFile {
        /// The path of what is there instead.
        path: PathBuf,
    },
    /// Not in the mmdb format, cut off, or corrupt.
    #[error(
        "the geo database {} is damaged or not an mmdb file ({reason}); download it again, unpacked and whole",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the verification found.
        reason: Box<Damage>,
    },
    /// A sound database about something else, such as connection types.
    #[error(
        "no record of the geo database {} ({kind:?}) has a country, an autonomous system or an anonymous network; \
         use a country, city, ASN or anonymous-IP database",
        .path.display()
    )]
    Irrelevant {
        /// The file.
        path: PathBuf,
        /// The publisher's name for its contents.
        kind: String,
    },
}

impl DatabaseError {
    /// Returns the file at fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. }
            | Self::NotAFile { path }
            | Self::Damaged { path, .. }
            | Self::Irrelevant { path, .. } => path,
        }
    }
}
