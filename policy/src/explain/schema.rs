//! The JSON schema of an explanation.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::Explanation;
use crate::country::Country;
use crate::moment::Moment;
use crate::region::Access;
use crate::score::{CurveShape, LatencyFrom, Terms};
use crate::verdict::Reason;

/// Returns the JSON schema (draft 2020-12) of what `meridian explain --format json` prints. More fields may come in
/// a later version; those that are here stay.
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Explanation>()
}

impl JsonSchema for Reason {
    fn schema_name() -> Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Why a decision refuses.",
            "oneOf": Reason::ALL.map(|reason| json_schema!({
                "type": "string",
                "const": reason.name(),
                "description": super::detail(reason),
            })),
        })
    }
}

impl JsonSchema for Access {
    fn schema_name() -> Cow<'static, str> {
        "Access".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whether a request changes state at the origin.",
            "type": "string",
            "enum": [Access::Read, Access::Write],
        })
    }
}

impl JsonSchema for Country {
    fn schema_name() -> Cow<'static, str> {
        "Country".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A country, by its ISO 3166-1 alpha-2 code.",
            "type": "string",
            "pattern": "^[A-Z]{2}$",
        })
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A point in time: a date, which is 00:00 UTC, or an RFC 3339 time in UTC.",
            "type": "string",
            "pattern": "^-?[0-9]{4,6}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?$",
        })
    }
}

impl JsonSchema for CurveShape {
    fn schema_name() -> Cow<'static, str> {
        "CurveShape".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What holds between two knots of a curve: a straight line, or the points of the knot before.",
            "type": "string",
            "enum": [CurveShape::Line, CurveShape::Steps],
        })
    }
}

impl JsonSchema for LatencyFrom {
    fn schema_name() -> Cow<'static, str> {
        "LatencyFrom".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "From where the latency of a score is reckoned: from the node that has the request, or from the client, where its coordinates are known.",
            "type": "string",
            "enum": [LatencyFrom::Node, LatencyFrom::Client],
        })
    }
}

impl JsonSchema for Terms {
    fn schema_name() -> Cow<'static, str> {
        "Terms".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let points = || json_schema!({ "type": "number", "minimum": 0, "maximum": 100 });
        json_schema!({
            "description": "The four terms of a score, each 0 to 100.",
            "type": "object",
            "properties": { "latency": points(), "load": points(), "compliance": points(), "cost": points() },
            "required": ["latency", "load", "compliance", "cost"],
        })
    }
}
