//! What a node knows by itself of the load of a region.

/// The share of a node's cap on requests in flight to a region that one request takes: more while endpoints are down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneRequest(f32);

impl OneRequest {
    /// Makes the share of one request of a cap, of which `in_rotation` (`0..=1`) is left by the endpoints that are down.
    /// Without any in rotation, what may still be there is all that there is.
    pub fn of(cap: usize, in_rotation: f32) -> Self {
        let left = if in_rotation <= 0.0 { 1.0 } else { in_rotation };
        Self(1.0 / (cap.max(1) as f32 * left))
    }

    /// Makes it of its [`OneRequest::to_bits`].
    pub fn from_bits(bits: u32) -> Self {
        Self(f32::from_bits(bits))
    }

    /// Returns it as a number that a cell can hold.
    pub fn to_bits(self) -> u32 {
        self.0.to_bits()
    }

    /// Returns the load of so many requests in flight, as a share of the cap.
    pub fn load(self, in_flight: f32) -> f32 {
        in_flight * self.0
    }

    /// Returns the cap that [`OneRequest::load`] is a share of; at least 1.
    pub fn cap(self) -> u32 {
        (1.0 / self.0).round().max(1.0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_shrinks_with_the_endpoints_that_are_down() {
        for (cap, in_rotation, in_flight, load, reported) in [
            (100, 1.0, 50.0, 0.5, 100),
            (100, 0.5, 50.0, 1.0, 50),
            (100, 0.0, 50.0, 0.5, 100),
            (0, 1.0, 3.0, 3.0, 1),
            (1, 0.25, 1.0, 4.0, 1),
        ] {
            let one = OneRequest::of(cap, in_rotation);
            assert_eq!((one.load(in_flight), one.cap()), (load, reported), "{cap} {in_rotation}");
            assert_eq!(OneRequest::from_bits(one.to_bits()), one);
        }
    }
}
