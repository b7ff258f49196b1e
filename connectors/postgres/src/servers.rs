//! Which of several hosts is the one: see [`rowcast_net::Servers`]. A single host, whatever it is, costs no question.

use rowcast_core::SourceError;
use rowcast_net::SessionAttributes;

use crate::Options;
use crate::catalog::Catalog;
use crate::error::Target;

/// Connects to the first server that is as wanted; from now on it is the chosen one.
///
/// # Errors
/// Transient if none answers and is as wanted, with the reason of each; the refusal of the first that refuses the login.
pub(crate) async fn choose(options: &Options, target: &Target) -> Result<Catalog, SourceError> {
    let servers = &options.servers;
    if servers.is_fixed() {
        return Catalog::connect(options, target).await;
    }
    let mut search = servers.search();
    while let Some((servers, want)) = search.candidate() {
        match look(&Options { servers, ..options.clone() }, target, want).await {
            Ok(None) => {
                search.accept();
                if options.servers.count() > 1 {
                    let server = options.servers.host();
                    tracing::info!(source = options.name, %server, "connected to this one of several servers");
                }
                return Catalog::connect(options, target).await;
            }
            Ok(Some(lacks)) => search.refuse(lacks),
            Err(error) if error.is_transient() => search.refuse(error),
            Err(error) => return Err(error),
        }
    }
    Err(target.transient(search.reasons()).repair("check `source.host`, and `source.target_session_attrs`"))
}

async fn look(
    options: &Options,
    target: &Target,
    want: SessionAttributes,
) -> Result<Option<&'static str>, SourceError> {
    const ATTRIBUTES: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'";
    const DOING: &str = "asking a server whether it is a standby";
    let mut catalog = Catalog::connect(options, target).await?;
    let rows = catalog.query(DOING, ATTRIBUTES, &[]).await?;
    let row = rows.first().ok_or_else(|| target.transient(format!("{DOING}: no answer")))?;
    Ok(want.lacks(row.get(0), row.get(1)))
}
