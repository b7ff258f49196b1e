//! Recorded binlogs of `connectors/mysql/fixtures`, cut into inputs under `seeds/`: see `scripts/fuzz-seeds.sh`. Names of files that begin with
//! `mariadb` are MariaDB's.

use std::path::Path;
use std::{env, fs};

use rowcast_mysql::Flavor;

fn main() {
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().expect("the folder for the seeds");
    for file in arguments {
        let path = Path::new(&file);
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let flavor = if name.starts_with("mariadb") { Flavor::MariaDb } else { Flavor::Mysql };
        for (target, which, input) in rowcast_mysql::fuzzing::inputs(flavor, &fs::read(path).expect("a file")) {
            let folder = Path::new(&folder).join(format!("mysql_{target}"));
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(format!("{name}-{which}")), input).expect("a file");
        }
    }
}
