//! The `admin` key of the shared file: where the daemon answers questions about itself over HTTP.

use super::reader::Section;

/// Where the admin endpoint listens if `admin` isn't set.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9187";

/// The admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// `host:port`; none if it is off.
    pub address: Option<String>,
    /// Somebody wrote it down: then it must be had. The default may be taken by another daemon on the same machine.
    pub explicit: bool,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { address: Some(DEFAULT_ADMIN.to_owned()), explicit: false }
    }
}

/// Reads `admin`; `None` after a report.
pub(crate) fn read(root: &Section<'_>) -> Option<AdminConfig> {
    match root.has("admin") {
        true => root.value("admin", parse_admin),
        false => Some(AdminConfig::default()),
    }
}

/// Reads an address, or `off`.
///
/// # Errors
/// Says what is expected.
pub fn parse_admin(text: &str) -> Result<AdminConfig, String> {
    if text == "off" {
        return Ok(AdminConfig { address: None, explicit: true });
    }
    let wrong = || format!("expected host:port, such as {DEFAULT_ADMIN}, or off");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bare {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_')),
    };
    if !good || port.parse::<u16>().is_err() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    Ok(AdminConfig { address: Some(text.to_owned()), explicit: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:9187", "localhost:0", "[::1]:9187", "0.0.0.0:80", "rowcast-1.internal:65535"] {
            assert_eq!(parse_admin(good).map(|it| it.address), Ok(Some(good.to_owned())));
        }
        assert_eq!(parse_admin("off").map(|it| it.address), Ok(None));
        for bad in ["", "9187", ":9187", "host:", "host:65536", "host:+1", "::1:9187", "a b:1", "http://h:1", "on"] {
            assert!(parse_admin(bad).is_err(), "{bad}");
        }
    }
}
