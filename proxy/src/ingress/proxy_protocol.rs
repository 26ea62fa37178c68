//! The PROXY protocol, versions 1 and 2: who a load balancer in front of us was called by.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ppp::v2;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

use crate::ingress::crc32c::crc32c;
use crate::ingress::peek::peek_until;

/// Who speaks on a connection of a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// The proxy itself: it sends no header, or says that the connection is its own (version 2, LOCAL).
    Proxy,
    /// This client.
    Client(SocketAddr),
    /// A client whom the header does not name: UNKNOWN in version 1; no address, a Unix socket's or a datagram's in
    /// version 2. Nothing that comes on the connection is the proxy's word.
    Unknown,
}

/// Why a PROXY header is refused, and its connection with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyHeaderFault {
    #[error("the PROXY header does not parse: {0}")]
    Malformed(String),
    #[error("a field of the PROXY header (type {0:#04x}) is longer than what is left of the header")]
    Overrun(u8),
    #[error("the PROXY header's CRC-32C is wrong")]
    Checksum,
    #[error("the connection ends amid its PROXY header: {0}")]
    CutOff(#[from] io::Error),
}

impl ProxyHeaderFault {
    /// Returns the word for the metrics.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Overrun(_) => "overrun",
            Self::Checksum => "checksum",
            Self::CutOff(_) => "cut_off",
        }
    }
}

impl From<ProxyHeaderFault> for io::Error {
    fn from(fault: ProxyHeaderFault) -> Self {
        match fault {
            ProxyHeaderFault::CutOff(error) => error,
            fault => io::Error::new(io::ErrorKind::InvalidData, fault),
        }
    }
}

/// How a connection begins.
#[derive(Debug, PartialEq, Eq)]
enum Beginning {
    /// With no header: all of it is the proxy's own.
    Nothing,
    /// With a whole header of version 1, so many bytes long.
    Version1(usize, ProxyHeader),
    /// With the signature of version 2.
    Version2,
}

/// Takes a PROXY header off a connection of a trusted peer, and tells who speaks on it. The caller bounds the time.
///
/// # Errors
/// When the connection fails, or begins like a header that does not parse, or is not what was sent.
pub(crate) async fn caller(stream: &mut TcpStream) -> Result<ProxyHeader, ProxyHeaderFault> {
    let mut buffer = [0; LONGEST_VERSION_1];
    let cut_off = || Err(malformed("it is cut off"));
    match peek_until(stream, &mut buffer, judge).await?.unwrap_or_else(cut_off)? {
        Beginning::Nothing => Ok(ProxyHeader::Proxy),
        Beginning::Version1(length, caller) => {
            if let Some(header) = buffer.get_mut(..length) {
                stream.read_exact(header).await?;
            }
            Ok(caller)
        }
        Beginning::Version2 => version_2(stream).await,
    }
}

/// Judges the first bytes of a connection. `None` while more must be seen.
fn judge(seen: &[u8]) -> Option<Result<Beginning, ProxyHeaderFault>> {
    let begins_like = |signature: &[u8]| {
        let common = seen.len().min(signature.len());
        common > 0 && seen.get(..common) == signature.get(..common)
    };
    if begins_like(v2::PROTOCOL_PREFIX) {
        return (seen.len() >= v2::PROTOCOL_PREFIX.len()).then_some(Ok(Beginning::Version2));
    }
    if !begins_like(VERSION_1) {
        return Some(Ok(Beginning::Nothing));
    }
    let Some(length) = seen.windows(2).position(|end| end == b"\r\n") else {
        return (seen.len() >= LONGEST_VERSION_1).then(|| Err(malformed("its line is too long")));
    };
    let line = seen.get(..length).unwrap_or_default();
    Some(version_1(line).map(|caller| Beginning::Version1(length + 2, caller)))
}

/// Reads a header of version 1, without the end of its line (2.1). ppp's parser takes signs before ports, and not all that
/// may follow UNKNOWN.
fn version_1(line: &[u8]) -> Result<ProxyHeader, ProxyHeaderFault> {
    let mut words = line.split(|byte| *byte == b' ');
    if words.next() != Some(VERSION_1) {
        return Err(malformed("no space follows PROXY"));
    }
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default();
    let is_version_6 = match word() {
        // Whatever follows is to be ignored.
        "UNKNOWN" => return Ok(ProxyHeader::Unknown),
        "TCP4" => false,
        "TCP6" => true,
        _ => return Err(malformed("it names no known protocol")),
    };
    let address = |word: &str| match is_version_6 {
        false => word.parse().map(|address: Ipv4Addr| IpAddr::from(address)).ok(),
        true => word.parse().map(|address: Ipv6Addr| IpAddr::from(address)).ok(),
    };
    let port = |word: &str| {
        let is_canonical = word == "0" || !word.starts_with('0') && word.bytes().all(|byte| byte.is_ascii_digit());
        word.parse::<u16>().ok().filter(|_| is_canonical)
    };
    let addresses = address(word()).zip(address(word()));
    let ports = port(word()).zip(port(word()));
    if words.next().is_some() {
        return Err(malformed("its line goes on after the ports"));
    }
    let (source, _) = addresses.ok_or_else(|| malformed("an address is none"))?;
    let (port, _) = ports.ok_or_else(|| malformed("a port is none"))?;
    Ok(ProxyHeader::Client((source, port).into()))
}

fn malformed(why: &str) -> ProxyHeaderFault {
    ProxyHeaderFault::Malformed(why.to_owned())
}

/// Takes a header of version 2 off a stream: its fixed part, and then as much as that says.
async fn version_2(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxyHeader, ProxyHeaderFault> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    // What cannot be a header is refused before its length is believed.
    if let Err(error) = v2::Header::try_from(&fixed[..])
        && !matches!(error, v2::ParseError::Partial(..))
        && !(is_local(&fixed) && matches!(error, v2::ParseError::InvalidAddresses(..)))
    {
        return Err(ProxyHeaderFault::Malformed(error.to_string()));
    }
    let [.., high, low] = fixed;
    let mut header = fixed.to_vec();
    header.resize(FIXED + usize::from(u16::from_be_bytes([high, low])), 0);
    stream.read_exact(header.get_mut(FIXED..).unwrap_or_default()).await?;
    read_version_2(&header)
}

/// Reads a whole header of version 2. A LOCAL one is checked like all others: it is the proxy's word, too.
fn read_version_2(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderFault> {
    let header = match v2::Header::try_from(bytes) {
        // A family is no promise of addresses there: both are to be discarded (2.2).
        Err(v2::ParseError::InvalidAddresses(..)) if is_local(bytes) => return Ok(ProxyHeader::Proxy),
        header => header.map_err(|error| ProxyHeaderFault::Malformed(error.to_string()))?,
    };
    let addresses = header.addresses.address_family().byte_length();
    let checked = check_fields(bytes, FIXED + addresses.unwrap_or(0));
    // What follows UNSPEC is for nobody to read (2.2), unless it happens to be fields.
    match checked {
        Err(ProxyHeaderFault::Overrun(_) | ProxyHeaderFault::Malformed(_)) if addresses.is_none() => {}
        checked => checked?,
    }
    Ok(v2_caller(&header))
}

/// Walks the fields (TLVs) from `at` to the header's end, and verifies its checksum if it has one (2.2.3).
fn check_fields(header: &[u8], mut at: usize) -> Result<(), ProxyHeaderFault> {
    let mut checksum = None;
    while let Some(rest) = header.get(at..).filter(|rest| !rest.is_empty()) {
        let [kind, high, low, rest @ ..] = rest else {
            return Err(ProxyHeaderFault::Overrun(rest.first().copied().unwrap_or_default()));
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..length).ok_or(ProxyHeaderFault::Overrun(*kind))?;
        if *kind == CRC32C {
            let value = <[u8; 4]>::try_from(value).ok().filter(|_| checksum.is_none());
            let value = value.ok_or_else(|| ProxyHeaderFault::Malformed("its CRC-32C is none".to_owned()))?;
            checksum = Some((at + FIELD_HEADER, u32::from_be_bytes(value)));
        }
        at += FIELD_HEADER + length;
    }
    let Some((at, expected)) = checksum else { return Ok(()) };
    let before = header.get(..at).unwrap_or_default();
    let after = header.get(at + 4..).unwrap_or_default();
    // It is that of the header with zeros in its place.
    if crc32c([before, &[0; 4], after]) == expected { Ok(()) } else { Err(ProxyHeaderFault::Checksum) }
}

/// Returns whether the command of a header of version 2 is LOCAL.
fn is_local(header: &[u8]) -> bool {
    header.get(v2::PROTOCOL_PREFIX.len()).is_some_and(|version_and_command| version_and_command & 0x0f == 0)
}

fn v2_caller(header: &v2::Header<'_>) -> ProxyHeader {
    match (header.command, header.protocol, header.addresses) {
        (v2::Command::Local, ..) => ProxyHeader::Proxy,
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(ip)) => {
            ProxyHeader::Client((ip.source_address, ip.source_port).into())
        }
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(ip)) => {
            ProxyHeader::Client((ip.source_address, ip.source_port).into())
        }
        (v2::Command::Proxy, ..) => ProxyHeader::Unknown,
    }
}

/// What a header of version 1 begins with.
const VERSION_1: &[u8] = b"PROXY";
/// What a header of version 1 has at most, with the end of its line (2.1).
const LONGEST_VERSION_1: usize = 107;
/// Of version 2: the signature, version and command, family and protocol, and the length of the rest.
const FIXED: usize = 16;
/// A field's type and length.
const FIELD_HEADER: usize = 3;
/// `PP2_TYPE_CRC32C`.
const CRC32C: u8 = 0x03;

#[cfg(test)]
mod tests;
