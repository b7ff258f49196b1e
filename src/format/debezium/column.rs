//! From a column to its schema and its form: what each type of the servers is in Kafka Connect, by the modes that are configured.
//!
//! Types are taken from the original's value converters (PostgreSQL; MySQL and MariaDB), version 3.6. A type that the original leaves out has
//! no field; with `exact` it is a text.

use rowcast_core::{Column, PgType, Type};

use super::form::Form;
use super::schema::{Kind, Schema, fields, text};
use super::time::Unit;
use crate::config::{BinaryMode, DebeziumConfig, DecimalMode, HstoreMode, IntervalMode, TimeMode, UnsignedMode};

/// Names of Kafka Connect's own types.
const CONNECT: &str = "org.apache.kafka.connect.data.";

/// What a column is.
pub(super) type Mapped = (Form, Schema);

/// A column of a source of this kind; none if it isn't published. `nullable` isn't looked at.
pub(super) fn mapped(column: &Column, kind: &str, config: &DebeziumConfig) -> Option<Mapped> {
    if kind == "postgres" {
        let names = Names::of(column);
        postgres(&column.ty, &names, config).or_else(|| {
            let named = match column.ty {
                Type::Other | Type::Text => text(false),
                _ => named_text("io.debezium.data.Json"),
            };
            config.exact.then_some((Form::OwnText, named))
        })
    } else {
        mysql(column, kind, config)
    }
}

fn of(kind: Kind) -> Schema {
    Schema::of(kind)
}

fn named_text(name: &str) -> Schema {
    Schema::named(Kind::String, name)
}

/// Dates and times, which all servers have.
fn date(config: &DebeziumConfig) -> Mapped {
    match config.time {
        TimeMode::IsoString => (Form::IsoDate, named_text("io.debezium.time.IsoDate")),
        TimeMode::Connect => {
            (Form::Days { exact: config.exact }, Schema::named(Kind::Int32, &format!("{CONNECT}Date")))
        }
        _ => (Form::Days { exact: config.exact }, Schema::named(Kind::Int32, "io.debezium.time.Date")),
    }
}

fn time(digits: u8, config: &DebeziumConfig) -> Mapped {
    let number = |unit, kind, name: &str| (Form::Time { unit, day_only: false }, Schema::named(kind, name));
    match config.time {
        TimeMode::IsoString => (Form::IsoTime { day_only: !config.exact }, named_text("io.debezium.time.IsoTime")),
        TimeMode::Connect => (
            Form::Time { unit: Unit::Millis, day_only: !config.exact },
            Schema::named(Kind::Int32, &format!("{CONNECT}Time")),
        ),
        TimeMode::Adaptive if digits <= 3 => number(Unit::Millis, Kind::Int32, "io.debezium.time.Time"),
        TimeMode::Nanoseconds => number(Unit::Nanos, Kind::Int64, "io.debezium.time.NanoTime"),
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            number(Unit::Micros, Kind::Int64, "io.debezium.time.MicroTime")
        }
    }
}

fn timestamp(digits: u8, config: &DebeziumConfig) -> Mapped {
    let number = |unit, name: &str| (Form::Timestamp { unit, exact: config.exact }, Schema::named(Kind::Int64, name));
    match config.time {
        TimeMode::IsoString => {
            (Form::IsoTimestamp { exact: config.exact }, named_text("io.debezium.time.IsoTimestamp"))
        }
        TimeMode::Connect => number(Unit::Millis, &format!("{CONNECT}Timestamp")),
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds if digits <= 3 => {
            number(Unit::Millis, "io.debezium.time.Timestamp")
        }
        TimeMode::Nanoseconds => number(Unit::Nanos, "io.debezium.time.NanoTimestamp"),
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            number(Unit::Micros, "io.debezium.time.MicroTimestamp")
        }
    }
}

fn decimal(precision: u16, scale: i32, config: &DebeziumConfig) -> Mapped {
    match config.decimal {
        DecimalMode::Double => (Form::DecimalDouble, of(Kind::Double)),
        DecimalMode::String => (Form::DecimalText, text(false)),
        DecimalMode::Precise => {
            let schema = decimal_schema(scale).with("connect.decimal.precision", precision.to_string());
            (Form::Decimal { scale }, schema)
        }
    }
}

fn decimal_schema(scale: i32) -> Schema {
    Schema::named(Kind::Bytes, &format!("{CONNECT}Decimal")).with("scale", scale.to_string())
}

fn bytes(config: &DebeziumConfig) -> Mapped {
    let kind = if config.binary == BinaryMode::Bytes { Kind::Bytes } else { Kind::String };
    (Form::Bytes(config.binary), of(kind))
}

fn bits(length: u32, form: Form) -> Mapped {
    match length {
        1 => (Form::Bit, of(Kind::Boolean)),
        _ => (form, Schema::named(Kind::Bytes, "io.debezium.data.Bits").with("length", length.to_string())),
    }
}

fn labels(name: &str, labels: &[String]) -> Schema {
    named_text(name).with("allowed", labels.join(","))
}

fn point() -> Mapped {
    let kind = fields([
        ("x", of(Kind::Double)),
        ("y", of(Kind::Double)),
        ("wkb", of(Kind::Bytes).optional()),
        ("srid", of(Kind::Int32).optional()),
    ]);
    (Form::Point, Schema::named(kind, "io.debezium.data.geometry.Point").documented("Geometry (POINT)"))
}

/// Optional whatever the column says, as the original's is.
fn geometry(extended: bool) -> Mapped {
    let kind = fields([("wkb", of(Kind::Bytes)), ("srid", of(Kind::Int32).optional())]);
    let schema = Schema::named(kind, "io.debezium.data.geometry.Geometry").documented("Geometry").optional();
    (Form::Geometry { extended }, schema)
}

fn vector(kind: Kind, name: &str) -> Mapped {
    (Form::Vector, Schema::named(Kind::Array(Box::new(of(kind))), name))
}

/// The server's names of a column's type: of itself (or what a domain is made of in the end), and of an array's elements.
struct Names {
    own: String,
    element: String,
}

impl Names {
    fn of(column: &Column) -> Self {
        let facts = column.facts.as_ref().and_then(|facts| facts.pg.as_ref());
        let own = facts.map(root);
        let native = bare(&column.native);
        let element = own.and_then(|own| own.element.as_deref()).map(root).map(|it| it.name.clone());
        Self {
            element: element.unwrap_or_else(|| native.trim_end_matches("[]").to_owned()),
            own: own.map_or(native, |own| own.name.clone()),
        }
    }

    /// Of an array's elements alone.
    fn inner(&self) -> Self {
        Self { own: self.element.clone(), element: String::new() }
    }
}

/// What a domain is made of in the end.
fn root(mut ty: &PgType) -> &PgType {
    while let Some(base) = &ty.base {
        ty = base;
    }
    ty
}

/// A type's name without schema, quotes and modifiers: `geometry` of `public.geometry(Point,4326)`.
fn bare(native: &str) -> String {
    let array = native.ends_with("[]");
    let name = native.split('(').next().unwrap_or_default().trim_end_matches("[]");
    let name = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    if array { format!("{name}[]") } else { name.to_owned() }
}

/// Ranges that the original knows.
const RANGES: [&str; 6] = ["int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"];
/// Texts of the server that it takes as they are.
const TEXTS: [&str; 6] = ["inet", "cidr", "macaddr", "macaddr8", "isbn", "citext"];
/// Elements of arrays that it doesn't take.
const NO_ELEMENTS: [&str; 8] = ["money", "name", "interval", "varbit", "xml", "point", "refcursor", "bit"];

fn postgres(ty: &Type, names: &Names, config: &DebeziumConfig) -> Option<Mapped> {
    let exact = config.exact;
    Some(match ty {
        Type::Bool => (Form::Plain, of(Kind::Boolean)),
        Type::Int { bits: 16, .. } => (Form::Plain, of(Kind::Int16)),
        Type::Int { bits: 32, unsigned: false } => (Form::Plain, of(Kind::Int32)),
        Type::Int { .. } => (Form::Plain, of(Kind::Int64)),
        Type::Float => (Form::Float, of(Kind::Float)),
        Type::Double => (Form::Double, of(Kind::Double)),
        Type::Decimal { .. } if names.own == "money" => money(config),
        Type::Decimal { precision_scale: Some((precision, scale)) } => {
            // the original reads the eleven bits of a negative scale as a positive one
            let scale = i32::from(*scale);
            decimal(*precision, if exact || scale >= 0 { scale } else { scale + 2048 }, config)
        }
        Type::Decimal { precision_scale: None } => match config.decimal {
            DecimalMode::Precise => variable(exact),
            _ => decimal(0, 0, config),
        },
        Type::Text => (Form::Text, text(false)),
        Type::Bytes => bytes(config),
        Type::Bits { length } => {
            let length = length.unwrap_or(i32::MAX as u32);
            bits(length, Form::Bits { bytes: 0, as_long: exact })
        }
        Type::Date => date(config),
        Type::Time { digits } => time(*digits, config),
        Type::TimeTz { .. } => (Form::ZonedTime { keep_offset: exact }, named_text("io.debezium.time.ZonedTime")),
        Type::DateTime { digits } => timestamp(*digits, config),
        Type::Instant { digits } => {
            (Form::Zoned { digits: Some(*digits), trimmed: false }, named_text("io.debezium.time.ZonedTimestamp"))
        }
        Type::Interval => match config.interval {
            IntervalMode::Numeric => {
                (Form::IntervalMicros { exact }, Schema::named(Kind::Int64, "io.debezium.time.MicroDuration"))
            }
            IntervalMode::String => (Form::IntervalText { exact }, named_text("io.debezium.time.Interval")),
        },
        Type::Uuid => (Form::Uuid, named_text("io.debezium.data.Uuid")),
        Type::Json => (Form::Document { compact: false, spaced: true }, named_text("io.debezium.data.Json")),
        Type::Enum { labels: all } => (Form::Text, labels("io.debezium.data.Enum", all)),
        Type::Array(element) => {
            // what stands between blanks is no array to the original
            if matches!(names.own.as_str(), "int2vector" | "oidvector") && !exact {
                return None;
            }
            if NO_ELEMENTS.contains(&names.element.as_str()) && !exact {
                return None;
            }
            let (form, schema) = postgres(element, &names.inner(), config)?;
            let schema = match **element {
                // left as it is by the original
                Type::Enum { .. } => schema,
                _ => schema.optional(),
            };
            (Form::Array { of: Box::new(form), nested: exact }, of(Kind::Array(Box::new(schema))))
        }
        Type::Range(_) if RANGES.contains(&names.own.as_str()) || exact => (Form::Range, text(false)),
        Type::Map => match config.hstore {
            HstoreMode::Json => (Form::HstoreText, named_text("io.debezium.data.Json")),
            HstoreMode::Map => (Form::Map, of(Kind::Map(Box::new(text(false)), Box::new(text(true))))),
        },
        Type::Geometry if names.own == "geography" => {
            let kind = fields([("wkb", of(Kind::Bytes)), ("srid", of(Kind::Int32).optional())]);
            let schema = Schema::named(kind, "io.debezium.data.geometry.Geography").documented("Geography");
            (Form::Geometry { extended: true }, schema)
        }
        Type::Geometry => geometry(true),
        Type::Vector => match names.own.as_str() {
            "halfvec" => vector(Kind::Float, "io.debezium.data.FloatVector"),
            "sparsevec" => sparse(),
            _ => vector(Kind::Double, "io.debezium.data.DoubleVector"),
        },
        Type::Other => match names.own.as_str() {
            "xml" => (Form::Text, named_text("io.debezium.data.Xml")),
            "tsvector" => (Form::Text, named_text("io.debezium.data.Tsvector")),
            "ltree" => (Form::Text, named_text("io.debezium.data.Ltree")),
            "point" => point(),
            name if TEXTS.contains(&name) => (Form::Text, text(false)),
            _ => return None,
        },
        Type::Year | Type::Set { .. } | Type::Range(_) | Type::Multirange(_) | Type::Composite(_) => return None,
    })
}

fn money(config: &DebeziumConfig) -> Mapped {
    let scale = i32::from(config.money_fraction_digits);
    match config.decimal {
        DecimalMode::Precise => (Form::Decimal { scale }, decimal_schema(scale)),
        _ => decimal(0, scale, config),
    }
}

fn variable(as_written: bool) -> Mapped {
    let kind = fields([("scale", of(Kind::Int32)), ("value", of(Kind::Bytes))]);
    let schema = Schema::named(kind, "io.debezium.data.VariableScaleDecimal").documented("Variable scaled decimal");
    (Form::Variable { as_written }, schema)
}

fn sparse() -> Mapped {
    let map = of(Kind::Map(Box::new(of(Kind::Int16)), Box::new(of(Kind::Double))));
    let kind = fields([("dimensions", of(Kind::Int16)), ("vector", map)]);
    (Form::SparseVector, Schema::named(kind, "io.debezium.data.SparseDoubleVector").documented("Sparse double vector"))
}

fn mysql(column: &Column, kind: &str, config: &DebeziumConfig) -> Option<Mapped> {
    let exact = config.exact;
    let native = column.native.as_str();
    Some(match &column.ty {
        Type::Bool => (Form::Plain, of(Kind::Boolean)),
        Type::Int { bits: 8, .. } | Type::Int { bits: 16, unsigned: false } => (Form::Plain, of(Kind::Int16)),
        Type::Int { bits: 64, unsigned: true } => match config.bigint_unsigned {
            UnsignedMode::Precise => {
                (Form::Decimal { scale: 0 }, decimal_schema(0).with("connect.decimal.precision", "20"))
            }
            UnsignedMode::Long => (if exact { Form::Plain } else { Form::Wrapping }, of(Kind::Int64)),
        },
        Type::Int { bits: 32, unsigned: true } | Type::Int { bits: 64, .. } => (Form::Plain, of(Kind::Int64)),
        Type::Int { .. } => (Form::Plain, of(Kind::Int32)),
        // with two modifiers it is published as a double
        Type::Float if native.contains(',') => (Form::Double, of(Kind::Double)),
        Type::Float => (Form::Float, of(Kind::Float)),
        Type::Double => (Form::Double, of(Kind::Double)),
        Type::Decimal { precision_scale } => {
            let (precision, scale) = precision_scale.unwrap_or((10, 0));
            decimal(precision, i32::from(scale), config)
        }
        Type::Text => (Form::Text, text(false)),
        Type::Bytes => bytes(config),
        Type::Bits { length } => {
            let length = length.unwrap_or(1);
            bits(length, Form::Bits { bytes: length.div_ceil(8) as usize, as_long: false })
        }
        Type::Date => date(config),
        Type::Time { digits } => time(*digits, config),
        Type::DateTime { digits } => timestamp(*digits, config),
        Type::Instant { digits } => {
            let form = Form::Zoned { digits: Some(*digits), trimmed: !exact };
            (form, named_text("io.debezium.time.ZonedTimestamp"))
        }
        Type::Year => (Form::Plain, Schema::named(Kind::Int32, "io.debezium.time.Year")),
        Type::Uuid => (Form::Text, text(false)),
        // there it is text with a check
        Type::Json if kind == "mariadb" => (Form::Text, text(false)),
        Type::Json => (Form::Document { compact: true, spaced: !exact }, named_text("io.debezium.data.Json")),
        Type::Enum { labels: all } => (Form::Text, labels("io.debezium.data.Enum", all)),
        Type::Set { labels: all } => (Form::Set, labels("io.debezium.data.EnumSet", all)),
        Type::Geometry if native.eq_ignore_ascii_case("point") => point(),
        Type::Geometry => geometry(false),
        Type::Vector => vector(Kind::Float, "io.debezium.data.FloatVector"),
        Type::Other => (Form::Text, text(false)),
        Type::TimeTz { .. }
        | Type::Interval
        | Type::Array(_)
        | Type::Range(_)
        | Type::Multirange(_)
        | Type::Composite(_)
        | Type::Map => return None,
    })
}
