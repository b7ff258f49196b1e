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

/// `application_name`: what an operator sees in `pg_stat_activity` and `pg_stat_replication`.
pub(crate) fn application_name(name: &str) -> String {
    format!("rowcast {name}")
}
