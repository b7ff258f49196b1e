//! Rights on some columns of a table only. `information_schema` hides the others, so that the table would seem to end early:
//! such a table is refused.

use std::collections::HashSet;

use rowcast_core::SourceError;

use crate::Flavor;
use crate::connection::{Connection, Failure};
use crate::error::quoted;

const DOING: &str = "looking at rights on columns";

/// Refuses captured tables of which this user may read some columns only.
pub(crate) async fn whole(connection: &mut Connection, captured: &[(String, String)]) -> Result<(), SourceError> {
    let mut sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMN_PRIVILEGES".to_owned();
    if connection.place.flavor == Flavor::Mysql {
        sql += " UNION SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.ROLE_COLUMN_GRANTS";
    }
    let rows = connection.query(DOING, &sql).await?;
    let granted: HashSet<(String, String)> = rows
        .into_iter()
        .filter_map(|row| match <[_; 2]>::try_from(row) {
            Ok([Some(db), Some(table)]) => Some((db, table)),
            _ => None,
        })
        .collect();
    // Others' rights may be among these, and a right for the table beside those for its columns.
    for (db, table) in captured.iter().filter(|table| granted.contains(*table)) {
        let name = format!("`{}`.`{}`", db.replace('`', "``"), table.replace('`', "``"));
        match connection.ask(DOING, &format!("SELECT * FROM {name} LIMIT 0")).await {
            Err(Failure::Server(error)) if matches!(error.code, 1142 | 1143) => {
                let place = &connection.place;
                return Err(place
                    .definite(format_args!("this user may read some columns of {name} only: {error}"))
                    .repair(format!("GRANT SELECT ON {name} TO {}@'...'", quoted(&place.user))));
            }
            Err(Failure::Source(error)) => return Err(error),
            // whatever else is wrong with the table is found where it is read
            Err(Failure::Server(_)) | Ok(_) => {}
        }
    }
    Ok(())
}
