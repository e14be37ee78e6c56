//! Where a node may be: libpq's lists `host`, `hostaddr` and `port`.
//!
//! ```
//! use sharding::pool::hosts::hosts;
//! let all = hosts(Some("db1,db2"), None, Some("5433")).unwrap();
//! assert_eq!(all[1].place(), "db2 port 5433");
//! assert!(hosts(Some("db1,db2"), None, Some("1,2,3")).is_err());
//! ```

/// One place of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name that a certificate must have; a path for a Unix socket.
    pub name: String,
    /// The address, where that spares the look-up of the name.
    pub address: Option<String>,
    pub port: u16,
}

impl Host {
    /// How messages name it.
    pub fn place(&self) -> String {
        format!("{} port {}", self.address.as_ref().unwrap_or(&self.name), self.port)
    }

    /// The machine, as far as the options tell: `None` is this one.
    pub fn machine(&self) -> Option<&str> {
        let name = self.address.as_ref().unwrap_or(&self.name);
        let is_here = self.is_local()
            || name == DEFAULT_HOST
            || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        (!is_here).then_some(name)
    }

    /// The folder of a Unix socket, over which nobody can listen.
    pub fn is_local(&self) -> bool {
        self.address.is_none() && self.name.starts_with('/')
    }
}

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 5432;

/// The places that these options name, in order. The error says what does not fit.
pub fn hosts(host: Option<&str>, hostaddr: Option<&str>, port: Option<&str>) -> Result<Vec<Host>, String> {
    let (names, addresses, ports) = (list(host), list(hostaddr), list(port));
    let count = names.len().max(addresses.len()).max(1);
    for (option, list) in [("host", &names), ("hostaddr", &addresses)] {
        if !list.is_empty() && list.len() != count {
            return Err(format!("option \"{option}\" has {} of {count} hosts", list.len()));
        }
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(format!("option \"port\" has {} ports for {count} hosts", ports.len()));
    }
    (0..count)
        .map(|i| {
            let address = part(&addresses, i).map(str::to_string);
            let port = match part(&ports, if ports.len() == 1 { 0 } else { i }) {
                None => DEFAULT_PORT,
                Some(text) => parse_port(text).ok_or_else(|| format!("\"{text}\" is no port"))?,
            };
            let name = part(&names, i).or(address.as_deref()).unwrap_or(DEFAULT_HOST).to_string();
            Ok(Host { name, address, port })
        })
        .collect()
}

fn list(option: Option<&str>) -> Vec<&str> {
    option.map(|text| text.split(',').map(str::trim).collect()).unwrap_or_default()
}

fn part<'a>(list: &[&'a str], i: usize) -> Option<&'a str> {
    list.get(i).copied().filter(|text| !text.is_empty())
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(host: Option<&str>, hostaddr: Option<&str>, port: Option<&str>) -> Vec<String> {
        hosts(host, hostaddr, port).unwrap().iter().map(Host::place).collect()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        assert_eq!(places(None, None, None), ["localhost port 5432"]);
        assert_eq!(places(Some("a,"), None, Some(",7")), ["a port 5432", "localhost port 7"]);
        assert_eq!(places(None, Some("10.0.0.1"), None), ["10.0.0.1 port 5432"]);
    }

    #[test]
    fn one_port_is_for_all_hosts() {
        assert_eq!(places(Some("a, b"), None, Some("7")), ["a port 7", "b port 7"]);
        assert_eq!(places(Some("a,b"), None, Some("7,8")), ["a port 7", "b port 8"]);
    }

    #[test]
    fn an_address_goes_with_the_name_of_its_host() {
        let all = hosts(Some("a,b"), Some("10.0.0.1,"), None).unwrap();
        assert_eq!((all[0].name.as_str(), all[0].place().as_str()), ("a", "10.0.0.1 port 5432"));
        assert_eq!((all[1].name.as_str(), all[1].place().as_str()), ("b", "b port 5432"));
        assert!(hosts(Some("/run"), None, None).unwrap()[0].is_local());
    }

    #[test]
    fn lists_must_fit() {
        assert!(hosts(Some("a,b"), Some("10.0.0.1"), None).is_err());
        assert!(hosts(Some("a"), None, Some("1,2")).is_err());
        for port in ["0", "x", "65536", "-1"] {
            assert!(hosts(None, None, Some(port)).is_err(), "{port}");
        }
    }
}
