//! Which hosts are reached without the proxy.
//!
//! | rule | matches |
//! |---|---|
//! | `*` | every host |
//! | `example.com` | the name and all names below it |
//! | `.example.com`, `*.example.com` | the names below it, not itself |
//! | `10.1.2.3`, `::1`, `[::1]` | the address, where it is written as an address |
//! | `10.0.0.0/8`, `fd00::/8` | the addresses of the network, where they are written as addresses |
//! | any of them but networks and `*`, with `:port` (IPv6 in brackets) | the same at that port only |
//!
//! Upper case and one dot at the end make no difference. Names are not resolved to be compared with addresses.
//! Nothing is reached directly unless it is listed, `localhost` included: what one operator runs there another
//! one reaches through the proxy, and a rule that is not written cannot be seen.

use std::net::IpAddr;

use url::Host;

/// The rules of one provider.
#[derive(Debug, Default)]
pub(crate) struct NoProxy {
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    hosts: Hosts,
    /// At which port; at any if there is none.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// The name and those below it.
    Name(String),
    /// Only the names below it.
    Below(String),
    Address(IpAddr),
    Network {
        address: IpAddr,
        bits: u32,
    },
}

impl FromIterator<Rule> for NoProxy {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> NoProxy {
        NoProxy { rules: rules.into_iter().collect() }
    }
}

impl NoProxy {
    /// Whether a host, without brackets, is reached directly at this port.
    pub(super) fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        self.rules.iter().any(|rule| {
            rule.port.is_none_or(|only| only == port)
                && match (&rule.hosts, address) {
                    (Hosts::All, _) => true,
                    (Hosts::Name(name), None) => host == *name || is_below(&host, name),
                    (Hosts::Below(name), None) => is_below(&host, name),
                    (Hosts::Address(only), Some(address)) => *only == address,
                    (Hosts::Network { address: network, bits }, Some(address)) => {
                        is_within(address, *network, *bits)
                    }
                    (Hosts::Name(_) | Hosts::Below(_), Some(_))
                    | (Hosts::Address(_) | Hosts::Network { .. }, None) => false,
                }
        })
    }
}

impl Rule {
    /// Reads one entry of the list.
    pub(crate) fn parse(text: &str) -> Result<Rule, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("empty");
        }
        if text.contains([',', ' ', '\t']) {
            return Err("several entries in one text");
        }
        if text.contains("://") {
            return Err("an address with a scheme");
        }
        if text == "*" {
            return Ok(Rule { hosts: Hosts::All, port: None });
        }
        if let Some((address, bits)) = text.split_once('/') {
            return Ok(Rule { hosts: network(address, bits)?, port: None });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Rule { hosts: Hosts::Address(address.to_canonical()), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => match port.parse::<u16>() {
                Ok(port) if port != 0 => (host, Some(port)),
                _ if text.ends_with(']') => (text, None),
                _ => return Err("not a port"),
            },
            None => (text, None),
        };
        Ok(Rule { hosts: hosts(host)?, port })
    }
}

fn network(address: &str, bits: &str) -> Result<Hosts, &'static str> {
    let address: IpAddr = address.parse().map_err(|_| "not a network")?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    match bits.parse::<u32>() {
        Ok(bits) if bits <= most => Ok(Hosts::Network { address, bits }),
        _ => Err("not a network"),
    }
}

fn hosts(text: &str) -> Result<Hosts, &'static str> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Some(address) = bracketed {
        let address: IpAddr = address.parse().map_err(|_| "not an address")?;
        return Ok(Hosts::Address(address.to_canonical()));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return match address {
            IpAddr::V4(_) => Ok(Hosts::Address(address)),
            IpAddr::V6(_) => Err("an IPv6 address with a port needs brackets"),
        };
    }
    let (below, name) = match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
        Some(name) => (true, name),
        None => (false, text),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.contains('*') {
        return Err("not a name");
    }
    match Host::parse(name) {
        Ok(Host::Domain(name)) if below => Ok(Hosts::Below(name)),
        Ok(Host::Domain(name)) => Ok(Hosts::Name(name)),
        // A shortened address such as `10.1` would become another one than its writer thinks of.
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) => Err("not a whole address"),
        Err(_) => Err("not a name"),
    }
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests;
