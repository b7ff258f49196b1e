//! The server's own word on its rows: each value of an event beside what a SELECT says of the same column.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::support::source::Source;

/// What to ask for a column of this type, so that nothing is lost on the way.
fn expression(ty: &str, name: &str) -> String {
    let column = format!("`{}`", name.replace('`', "``"));
    match ty {
        "text" | "set" => format!("hex(convert({column} using utf8mb4))"),
        "enum" => format!("if({column} + 0 = 0, '', hex(convert({column} using utf8mb4)))"),
        "bytes" | "geometry" | "vector" => format!("hex({column})"),
        // not as `double(10,4)` shows it
        "float" | "double" => format!("cast({column} as double)"),
        "bits" => format!("bin({column} + 0)"),
        _ => format!("cast({column} as char)"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A value of an event in the words of [`expression`].
fn in_its_words(ty: &str, ours: &RawValue, theirs: &str) -> String {
    let raw = ours.get();
    let json: Json = serde_json::from_str(raw).unwrap();
    let text = || json.as_str().unwrap().to_owned();
    // what is for display only: the zeros of ZEROFILL and YEAR
    let unfilled = |mut ours: String| {
        while ours.len() < theirs.len() {
            ours.insert(0, '0');
        }
        ours
    };
    match ty {
        "int" | "uint" | "year" => unfilled(raw.to_owned()),
        "decimal" if theirs.starts_with('0') => unfilled(text()),
        "text" | "enum" => hex(text().as_bytes()),
        "set" => {
            let labels: Vec<&str> = json.as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
            hex(labels.join(",").as_bytes())
        }
        "bytes" => hex(&STANDARD.decode(text()).unwrap()),
        "geometry" => {
            let srid = u32::try_from(json["srid"].as_u64().unwrap()).unwrap().to_le_bytes();
            hex(&[&srid[..], &STANDARD.decode(json["wkb"].as_str().unwrap()).unwrap()].concat())
        }
        "vector" => {
            let number = |number: &Json| (number.as_f64().unwrap() as f32).to_le_bytes();
            hex(&json.as_array().unwrap().iter().flat_map(number).collect::<Vec<u8>>())
        }
        // numbers are compared as such: the server lays them out otherwise
        "float" if theirs.parse::<f64>().unwrap() == f64::from(raw.parse::<f32>().unwrap()) => theirs.to_owned(),
        "double" if theirs.parse::<f64>().unwrap() == raw.parse::<f64>().unwrap() => theirs.to_owned(),
        "float" | "double" => raw.to_owned(),
        "bits" => text().trim_start_matches('0').to_owned() + if text().contains('1') { "" } else { "0" },
        "datetime" | "instant" => text().replace('T', " ").replace('Z', ""),
        "json" => raw.to_owned(),
        _ => text(),
    }
}

/// Compares images of all rows of a table with what the table holds. Each row has an `id` of its own.
pub async fn against_select(source: &Source, table: &str, columns: &Json, images: &[String]) {
    let columns: Vec<(&str, &str)> = columns
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["type"].as_str().unwrap()))
        .collect();
    let expressions: Vec<String> = columns.iter().map(|(name, ty)| expression(ty, name)).collect();
    source.exec("set time_zone = '+00:00'").await;
    let rows = source.query(&format!("select {} from `{table}`", expressions.join(", "))).await;
    assert_eq!(rows.len(), images.len());
    let id = columns.iter().position(|(name, _)| *name == "id").unwrap();
    for image in images {
        let image: BTreeMap<String, Box<RawValue>> = serde_json::from_str(image).unwrap();
        let ours = image["id"].get().trim_matches('"');
        let row = rows.iter().find(|row| row[id].as_deref() == Some(ours)).unwrap();
        for ((name, ty), theirs) in columns.iter().zip(row) {
            let ours = &image[*name];
            match theirs {
                None => assert_eq!(ours.get(), "null", "{table}.{name}"),
                Some(theirs) => {
                    let theirs = if *ty == "json" { theirs.trim().replace('\n', " ") } else { theirs.clone() };
                    assert_eq!(in_its_words(ty, ours, &theirs), theirs, "{table}.{name} ({ty})");
                }
            }
        }
    }
}
