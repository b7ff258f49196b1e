//! Connect's schemas as JSON, byte by byte as Kafka Connect's converter writes them.
//!
//! A [`Schema`] is built once per table version and written into the prepared text of its table; nothing here runs per row.
//! The order of members is the converter's: type and what it is made of, `optional`, `name`, `version`, `doc`, `parameters`, `default`,
//! and `field` for members of a struct.

use super::string;
use crate::format::json::int;

/// What a schema's values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Int16,
    Int32,
    Int64,
    Float,
    Double,
    String,
    Bytes,
    Array(Box<Schema>),
    Map(Box<Schema>, Box<Schema>),
    Struct(Vec<(String, Schema)>),
}

/// A schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema {
    pub(super) kind: Kind,
    pub(super) optional: bool,
    pub(super) name: Option<String>,
    pub(super) version: Option<u32>,
    pub(super) doc: Option<String>,
    pub(super) parameters: Vec<(&'static str, String)>,
    /// As JSON.
    pub(super) default: Option<Vec<u8>>,
}

impl Schema {
    /// A required value without a name.
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, optional: false, name: None, version: None, doc: None, parameters: Vec::new(), default: None }
    }

    /// One of the named types, which all have version 1.
    pub(super) fn named(kind: Kind, name: &str) -> Self {
        Self { name: Some(name.to_owned()), version: Some(1), ..Self::of(kind) }
    }

    pub(super) fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    pub(super) fn with(mut self, parameter: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((parameter, value.into()));
        self
    }

    pub(super) fn documented(self, doc: &str) -> Self {
        Self { doc: Some(doc.to_owned()), ..self }
    }

    /// Writes it as an object.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.members(out);
        out.push(b'}');
    }

    fn field(&self, out: &mut Vec<u8>, name: &str) {
        self.members(out);
        out.extend_from_slice(b",\"field\":");
        string(out, name);
        out.push(b'}');
    }

    fn members(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(match self.kind {
            Kind::Boolean => b"boolean",
            Kind::Int16 => b"int16",
            Kind::Int32 => b"int32",
            Kind::Int64 => b"int64",
            Kind::Float => b"float",
            Kind::Double => b"double",
            Kind::String => b"string",
            Kind::Bytes => b"bytes",
            Kind::Array(_) => b"array",
            Kind::Map(..) => b"map",
            Kind::Struct(_) => b"struct",
        });
        out.push(b'"');
        match &self.kind {
            Kind::Array(items) => {
                out.extend_from_slice(b",\"items\":");
                items.write(out);
            }
            Kind::Map(keys, values) => {
                out.extend_from_slice(b",\"keys\":");
                keys.write(out);
                out.extend_from_slice(b",\"values\":");
                values.write(out);
            }
            Kind::Struct(fields) => {
                out.extend_from_slice(b",\"fields\":[");
                for (index, (name, schema)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    schema.field(out, name);
                }
                out.push(b']');
            }
            _ => {}
        }
        out.extend_from_slice(if self.optional { b",\"optional\":true" } else { b",\"optional\":false" });
        if let Some(name) = &self.name {
            out.extend_from_slice(b",\"name\":");
            string(out, name);
        }
        if let Some(version) = self.version {
            out.extend_from_slice(b",\"version\":");
            int(out, i64::from(version));
        }
        if let Some(doc) = &self.doc {
            out.extend_from_slice(b",\"doc\":");
            string(out, doc);
        }
        if !self.parameters.is_empty() {
            let mut separator = b",\"parameters\":{".as_slice();
            for (name, value) in &self.parameters {
                out.extend_from_slice(separator);
                string(out, name);
                out.push(b':');
                string(out, value);
                separator = b",";
            }
            out.push(b'}');
        }
        if let Some(default) = &self.default {
            out.extend_from_slice(b",\"default\":");
            out.extend_from_slice(default);
        }
    }
}

/// A required text, or an optional one.
pub(super) fn text(optional: bool) -> Schema {
    Schema { optional, ..Schema::of(Kind::String) }
}

/// A number of 8 bytes.
pub(super) fn int64(optional: bool) -> Schema {
    Schema { optional, ..Schema::of(Kind::Int64) }
}

/// A struct's fields from names and schemas.
pub(super) fn fields(of: impl IntoIterator<Item = (&'static str, Schema)>) -> Kind {
    Kind::Struct(of.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn members_stand_in_the_converters_order() {
        let decimal = Schema::named(Kind::Bytes, "org.apache.kafka.connect.data.Decimal")
            .with("scale", "2")
            .with("connect.decimal.precision", "12");
        let with_default = Schema { default: Some(b"\"AA==\"".to_vec()), ..decimal }.documented("a \"price\"");
        let array = Schema::of(Kind::Array(Box::new(text(true)))).optional();
        let map = Schema::of(Kind::Map(Box::new(text(false)), Box::new(text(true))));
        let row = Schema {
            name: Some("p.t.Value".to_owned()),
            ..Schema::of(fields([("price", with_default), ("tags", array), ("more", map)])).optional()
        };
        let mut out = Vec::new();
        row.write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"type":"struct","fields":[{"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,"#,
                r#""doc":"a \"price\"","parameters":{"scale":"2","connect.decimal.precision":"12"},"default":"AA==","field":"price"},"#,
                r#"{"type":"array","items":{"type":"string","optional":true},"optional":true,"field":"tags"},"#,
                r#"{"type":"map","keys":{"type":"string","optional":false},"values":{"type":"string","optional":true},"optional":false,"#,
                r#""field":"more"}],"optional":true,"name":"p.t.Value"}"#
            )
        );
    }
}
