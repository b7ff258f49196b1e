//! Messages of pgoutput as lines of hexadecimal digits on standard input, to files under `seeds/`: see `scripts/fuzz-seeds.sh`.
//! One of each kind of message, a row per table, a value per type and form.

use std::collections::{HashMap, HashSet};
use std::io::stdin;
use std::path::Path;
use std::{env, fs};

fn main() {
    let folder = env::args().nth(1).expect("the folder for the seeds");
    let (mut relations, mut seen) = (HashMap::new(), HashSet::new());
    let mut write = |target: &str, name: String, bytes: &[u8]| {
        if seen.insert(format!("{target}/{name}")) {
            let folder = Path::new(&folder).join(target);
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(name), bytes).expect("a file");
        }
    };
    let (mut tables, mut last) = (0, 0);
    for line in stdin().lines() {
        let line = line.expect("lines");
        let digits = line.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        let message: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect();
        let kind = char::from(*message.first().expect("a message"));
        write("message", format!("{kind}"), &message);
        for (target, number, input) in rowcast_postgres::fuzzing::inputs(&message, &mut relations) {
            if target == "row" && number != last {
                (last, tables) = (number, tables + 1);
            }
            let form = if message.get(8..9) == Some(b"b") { "binary" } else { "text" };
            let name = if target == "row" { format!("{form}-{tables}") } else { number.to_string() };
            write(target, name, &input);
        }
    }
}
