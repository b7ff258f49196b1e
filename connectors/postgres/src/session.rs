//! The settings that both kinds of session have: they decide how values are written as text.
//!
//! They come as start-up parameters, which take precedence over `ALTER ROLE ... SET` and `ALTER DATABASE ... SET`.
//! The replication connection and every connection that reads rows must have the same, else backfill and stream
//! would write unlike bytes for the same value.

/// `options` of the start-up message. `search_path` makes `format_type` qualify all names but the builtin ones;
/// `jit` would compile the catalog queries for seconds (measured: 2.9 of 3.0 s).
pub(crate) const OPTIONS: &str = "-c datestyle=ISO -c timezone=UTC -c intervalstyle=iso_8601 -c extra_float_digits=3 \
     -c bytea_output=hex -c jit=off -c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=0 \
     -c idle_in_transaction_session_timeout=0";

/// What a session that reads tables has besides. It can't write; a statement that takes too long ends, and so does one
/// that waits for a lock; rows are never left out silently by row-level security (`row_security=off` makes that an
/// error); rows come in the order of their places, which parallel workers and synchronized scans would change.
pub(crate) const READING: &str = "-c default_transaction_read_only=on -c statement_timeout=60s -c lock_timeout=10s \
     -c row_security=off -c max_parallel_workers_per_gather=0 -c synchronize_seqscans=off \
     -c standard_conforming_strings=on";

/// `application_name`: what an operator sees in `pg_stat_activity` and `pg_stat_replication`.
pub(crate) fn application_name(name: &str) -> String {
    format!("rowcast {name}")
}
