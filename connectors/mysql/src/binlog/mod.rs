//! The replication protocol: requests that start it and the events that it sends.

pub(crate) mod compressed;
pub(crate) mod ddl;
pub(crate) mod event;
pub(crate) mod gtid_set;
pub(crate) mod payload;
pub(crate) mod request;
pub(crate) mod rows_event;
pub(crate) mod statement;
pub(crate) mod table_map;
