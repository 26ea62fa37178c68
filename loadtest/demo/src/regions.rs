//! The regions of the `erlmcp-aws` world, as far as the demo must know them.

/// A region of the routing table.
#[derive(Debug)]
pub(crate) struct Region {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Where it is, for people.
    pub(crate) place: &'static str,
    /// Whether GDPR data may be in it. The demo judges by this, not by what the node says.
    pub(crate) in_eu: bool,
}

/// All of them, in the order in which they are shown.
pub(crate) const REGIONS: [Region; 6] = [
    Region { name: "us-east-1", place: "Virginia", in_eu: false },
    Region { name: "us-west-2", place: "Oregon", in_eu: false },
    Region { name: "eu-west-1", place: "Ireland", in_eu: true },
    Region { name: "eu-central-1", place: "Frankfurt", in_eu: true },
    Region { name: "ap-southeast-1", place: "Singapore", in_eu: false },
    Region { name: "ap-northeast-1", place: "Tokyo", in_eu: false },
];

/// The name as this module has it, for one that came over the wire.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    REGIONS.iter().find(|region| region.name == name).map(|region| region.name)
}
