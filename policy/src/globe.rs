//! Places on the globe, and what their distance says of a round trip between them.
//!
//! Light in fibre goes 200 km in a millisecond (a refractive index of 1.47: ITU-T G.652), so that a round trip over a
//! fibre along the great circle takes 1 ms for each 100 km: no measurement can be right that says less
//! ([`fastest_ms`]). Cables take detours: half of that speed, and 5 ms for the equipment, is what is assumed of two places
//! of which nothing else is known ([`assumed_ms`]).

/// Where something is, to a tenth of a degree: at most 8 km off, a tenth of a millisecond. It says how far away a client
/// is, and never whose law holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coordinates {
    /// Tenths of a degree, north of the equator, -900 to 900.
    latitude: i16,
    /// Tenths of a degree, east of Greenwich, -1800 to 1800.
    longitude: i16,
}

impl Coordinates {
    /// Makes a place of degrees; `None` for what is none on this globe.
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let tenths =
            |degrees: f64, most: f64| (-most..=most).contains(&degrees).then(|| libm::round(degrees * 10.0) as i16);
        Some(Self { latitude: tenths(latitude, 90.0)?, longitude: tenths(longitude, 180.0)? })
    }

    /// Returns its latitude and longitude in degrees.
    pub fn degrees(self) -> (f64, f64) {
        (f64::from(self.latitude) / 10.0, f64::from(self.longitude) / 10.0)
    }

    /// Returns it to a whole degree: at most 79 km off, 2 ms of what is assumed.
    pub fn rounded(self) -> Self {
        let whole = |tenths: i16| (libm::round(f64::from(tenths) / 10.0) * 10.0) as i16;
        Self { latitude: whole(self.latitude), longitude: whole(self.longitude) }
    }

    /// Returns it as a point.
    pub fn point(self) -> Point {
        Point::of(self.degrees())
    }
}

/// A point of the unit sphere: between two of them, the distance costs a square root and an arc sine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point([f64; 3]);

impl Point {
    /// Makes the point of a latitude and a longitude in degrees.
    pub fn of((latitude, longitude): (f64, f64)) -> Self {
        let (latitude, longitude) = (latitude.to_radians(), longitude.to_radians());
        let around = libm::cos(latitude);
        Self([around * libm::cos(longitude), around * libm::sin(longitude), libm::sin(latitude)])
    }

    /// Returns the kilometres to another along the great circle, on a sphere of the mean radius of the Earth.
    pub fn km_to(&self, other: &Self) -> f64 {
        let squares = self.0.iter().zip(&other.0).map(|(one, other)| (one - other) * (one - other));
        let half_chord = libm::sqrt(squares.sum::<f64>()) / 2.0;
        2.0 * RADIUS_KM * libm::asin(half_chord.min(1.0))
    }
}

/// Returns the round trip that is assumed of so many kilometres, in milliseconds.
pub fn assumed_ms(km: f64) -> f64 {
    2.0 * km / 100.0 + 5.0
}

/// Returns the shortest round trip that so many kilometres can have, in milliseconds.
pub fn fastest_ms(km: f64) -> f64 {
    km / 100.0
}

const RADIUS_KM: f64 = 6371.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_on_the_globe_is_no_place() {
        for (latitude, longitude) in
            [(90.1, 0.0), (-90.1, 0.0), (0.0, 180.1), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)]
        {
            assert_eq!(Coordinates::new(latitude, longitude), None, "{latitude} {longitude}");
        }
        let berlin = Coordinates::new(52.524, 13.411).unwrap();
        assert_eq!(berlin.degrees(), (52.5, 13.4));
        assert_eq!(berlin.rounded().degrees(), (53.0, 13.0));
        assert_eq!(Coordinates::new(-89.6, 179.9).unwrap().rounded().degrees(), (-90.0, 180.0));
    }

    #[test]
    fn london_is_so_far_from_new_york() {
        let [london, new_york] = [(51.5074, -0.1278), (40.7128, -74.0060)].map(Point::of);
        let km = london.km_to(&new_york);
        assert!((5565.0..5575.0).contains(&km), "{km}");
        assert!((116.0..117.0).contains(&assumed_ms(km)) && (55.0..56.0).contains(&fastest_ms(km)));
        assert_eq!(assumed_ms(london.km_to(&london)), 5.0);
    }

    /// The great circle by haversines.
    fn haversine_km(a: (f64, f64), b: (f64, f64)) -> f64 {
        let half = |from: f64, to: f64| libm::pow(libm::sin((to - from).to_radians() / 2.0), 2.0);
        let around = libm::cos(a.0.to_radians()) * libm::cos(b.0.to_radians());
        2.0 * RADIUS_KM * libm::asin(libm::sqrt((half(a.0, b.0) + around * half(a.1, b.1)).min(1.0)))
    }

    proptest! {
        #[test]
        fn the_chord_and_the_haversine_agree(
            a in (-900..=900_i32, -1800..=1800_i32), b in (-900..=900_i32, -1800..=1800_i32),
        ) {
            let [a, b] = [a, b].map(|(lat, lon)| (f64::from(lat) / 10.0, f64::from(lon) / 10.0));
            let (chord, haversine) = (Point::of(a).km_to(&Point::of(b)), haversine_km(a, b));
            prop_assert!((chord - haversine).abs() < 1e-2, "{} {}", chord, haversine);
        }
    }
}
