//! The JSON Schema of the envelope, `docs/envelope.schema.json`.

use std::collections::HashMap;

use jsonschema::Validator;
use serde_json::{Value as Json, json};

/// Checks events, and values by the type that the table's schema event has for their column.
pub struct Envelope {
    document: Json,
    event: Validator,
    types: HashMap<String, Validator>,
}

impl Envelope {
    /// Reads the schema.
    pub fn new() -> Envelope {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/envelope.schema.json");
        let document: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let event = jsonschema::draft202012::new(&document).unwrap();
        Envelope { document, event, types: HashMap::new() }
    }

    /// Checks a whole event.
    pub fn check(&self, event: &Json) {
        let errors: Vec<String> =
            self.event.iter_errors(event).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?}\n{event}");
    }

    /// Checks one column's value: null, or what the type's definition says. The type must have one.
    pub fn check_value(&mut self, ty: &str, value: &Json) {
        let document = &self.document;
        let validator = self.types.entry(ty.to_owned()).or_insert_with(|| {
            assert!(document["$defs"][ty].is_object(), "the schema has no definition of {ty}");
            let of = json!({"$ref": format!("#/$defs/{ty}"), "$defs": document["$defs"]});
            jsonschema::draft202012::new(&of).unwrap()
        });
        assert!(value.is_null() || validator.is_valid(value), "{value} is no {ty}");
    }
}
