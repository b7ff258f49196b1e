//! Which tables are being copied: for the encoders, which then note the keys of their changes.
//!
//! The list is replaced as a whole and has a version; an encoded batch says which version it was made by, so that the publisher
//! knows from which batch on the keys of a table are complete.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use rowcast_core::TableName;

use super::merge::KeyHash;
use super::state::TableId;

/// The tables of one version of the list.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Counts the changes of the list.
    pub version: u64,
    tables: HashSet<TableId>,
}

impl Watch {
    /// Whether the table is on it.
    pub fn has(&self, name: &TableName) -> bool {
        !self.tables.is_empty() && self.tables.contains(&TableId::of(name))
    }
}

/// The current list.
#[derive(Debug, Clone, Default)]
pub struct WatchList {
    current: Arc<Mutex<Arc<Watch>>>,
    hasher: Arc<KeyHasher>,
}

impl WatchList {
    /// The list as it is now.
    pub fn load(&self) -> Arc<Watch> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a table on the list or takes it off; returns the list's version.
    pub fn set(&self, table: &TableId, watched: bool) -> u64 {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Watch::clone(&current);
        let changed = if watched { next.tables.insert(table.clone()) } else { next.tables.remove(table) };
        if changed {
            next.version += 1;
            *current = Arc::new(next);
        }
        current.version
    }

    /// How keys are hashed in this run.
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }
}

/// Two keyed hashes with keys of this process: 128 bits, so that no two keys of a table are ever taken for one.
#[derive(Debug, Default)]
pub struct KeyHasher(RandomState, RandomState);

impl KeyHasher {
    /// The hash of a key's bytes.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            u128::from(hasher.finish())
        };
        half(&self.0) << 64 | half(&self.1)
    }

    /// The hash of a key by the literals of its columns.
    pub fn of_literals(&self, literals: &[String]) -> KeyHash {
        let text: String = literals.iter().flat_map(|literal| [literal.as_str(), "\0"]).collect();
        self.hash(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_a_new_version_with_each_change_only() {
        let (list, table) =
            (WatchList::default(), TableId { qualifier: "public".to_owned(), table: "orders".to_owned() });
        let name = TableName { db: Arc::from("shop"), schema: Some(Arc::from("public")), table: Arc::from("orders") };
        let before = list.load();
        assert_eq!(list.set(&table, true), 1);
        assert_eq!(list.set(&table, true), 1);
        assert!(list.load().has(&name) && !before.has(&name));
        assert_eq!(list.set(&table, false), 2);
        assert!(!list.load().has(&name));
    }

    #[test]
    fn keys_keep_their_hash_in_a_run() {
        let list = WatchList::default();
        assert_eq!(list.hasher().hash(b"{\"id\":1}"), list.clone().hasher().hash(b"{\"id\":1}"));
        assert_ne!(list.hasher().hash(b"{\"id\":1}"), list.hasher().hash(b"{\"id\":2}"));
    }
}
