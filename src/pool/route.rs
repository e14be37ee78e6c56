//! In which order a node's addresses are tried, and what follows when a try fails.
//!
//! For each thing to look for (`target_session_attrs`), at each address of each host, each way of encrypting
//! (`sslmode`). A server that answers decides, also with a no, except where another one may know better.
//!
//! ```
//! use sharding::pool::{route::{Failure, Route}, target::Target};
//! use sharding::tls::options::{Encryption, SslMode};
//! // Two hosts, the second of which is a Unix socket.
//! let mut route = Route::new(&[vec![true], vec![false]], SslMode::Prefer, Target::ReadWrite);
//! assert_eq!(route.current().unwrap().encryption, Encryption::IfOffered);
//! assert!(route.advance(Failure::Unreachable));
//! assert_eq!((route.current().unwrap().host, route.current().unwrap().encryption), (1, Encryption::Clear));
//! assert!(!route.advance(Failure::Refused));
//! ```

use crate::pool::target::Target;
use crate::tls::options::{Encryption, SslMode};

/// One thing to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    pass: usize,
    pub host: usize,
    /// Among the addresses of the host.
    pub address: usize,
    pub encryption: Encryption,
    pub target: Target,
}

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no answer, or it broke off.
    Unreachable,
    /// The server is not what is looked for.
    WrongServer,
    /// TLS did not come about.
    Insecure,
    /// The server said no, or cannot be believed; another way of encrypting may help.
    Refused,
    /// The same after a way of encrypting that leaves nothing to try.
    RefusedInClear,
    /// The server starts, stops or recovers.
    NotNow,
}

#[derive(Debug)]
pub struct Route {
    tries: Vec<Try>,
    at: usize,
}

impl Route {
    /// For hosts with addresses, of which is said whether they can have TLS (Unix sockets cannot).
    pub fn new(hosts: &[Vec<bool>], mode: SslMode, target: Target) -> Route {
        let mut tries = Vec::new();
        for (pass, target) in target.passes().iter().copied().enumerate() {
            for (host, addresses) in hosts.iter().enumerate() {
                for (address, can_encrypt) in addresses.iter().enumerate() {
                    let encryptions = if *can_encrypt { mode.encryptions() } else { &[Encryption::Clear] };
                    tries.extend(encryptions.iter().map(|encryption| Try {
                        pass,
                        host,
                        address,
                        encryption: *encryption,
                        target,
                    }));
                }
            }
        }
        Route { tries, at: 0 }
    }

    /// What to try now; `None` when there is nothing left.
    pub fn current(&self) -> Option<&Try> {
        self.tries.get(self.at)
    }

    /// Whether the next try is at another address than the current one.
    pub fn is_last_at_address(&self) -> bool {
        let place = |at: usize| self.tries.get(at).map(|t| (t.pass, t.host, t.address));
        place(self.at) != place(self.at + 1)
    }

    /// Goes on after a failure; `false` if it is final.
    pub fn advance(&mut self, failure: Failure) -> bool {
        let Some(failed) = self.current().copied() else { return false };
        let same_host = |t: &Try| (t.pass, t.host) == (failed.pass, failed.host);
        let same_address = |t: &Try| same_host(t) && t.address == failed.address;
        let rest = self.tries.get(self.at + 1..).unwrap_or_default();
        let skipped = match failure {
            Failure::Unreachable | Failure::WrongServer => rest.iter().take_while(|t| same_address(t)).count(),
            Failure::Insecure => 0,
            Failure::NotNow => rest.iter().take_while(|t| same_host(t)).count(),
            Failure::Refused if rest.first().is_some_and(same_address) => 0,
            Failure::Refused | Failure::RefusedInClear => rest.len(),
        };
        self.at += 1 + skipped;
        self.at < self.tries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut route: Route, failure: Failure) -> Vec<(usize, usize, Encryption)> {
        let mut tries = Vec::new();
        while let Some(now) = route.current() {
            tries.push((now.host, now.address, now.encryption));
            route.advance(failure);
        }
        tries
    }

    fn route(mode: SslMode, target: Target) -> Route {
        Route::new(&[vec![true, true], vec![], vec![true]], mode, target)
    }

    #[test]
    fn who_is_not_there_is_not_asked_in_another_way() {
        let expected = [(0, 0), (0, 1), (2, 0)];
        for (mode, first) in [
            (SslMode::Disable, Encryption::Clear),
            (SslMode::Allow, Encryption::Clear),
            (SslMode::Prefer, Encryption::IfOffered),
            (SslMode::VerifyFull, Encryption::Tls),
        ] {
            let tries = all(route(mode, Target::ReadWrite), Failure::Unreachable);
            assert_eq!(tries, expected.map(|(host, address)| (host, address, first)), "{mode:?}");
        }
    }

    #[test]
    fn a_no_counts_for_all_hosts() {
        assert_eq!(all(route(SslMode::Require, Target::Any), Failure::Refused).len(), 1);
        assert_eq!(
            all(route(SslMode::Allow, Target::Any), Failure::Refused),
            [(0, 0, Encryption::Clear), (0, 0, Encryption::Tls)]
        );
        assert_eq!(all(route(SslMode::Prefer, Target::Any), Failure::RefusedInClear).len(), 1);
    }

    #[test]
    fn a_server_that_starts_has_one_address_only() {
        let tries = all(route(SslMode::Require, Target::Any), Failure::NotNow);
        assert_eq!(tries, [(0, 0, Encryption::Tls), (2, 0, Encryption::Tls)]);
    }

    #[test]
    fn a_standby_is_looked_for_twice() {
        let tries = all(route(SslMode::Disable, Target::PreferStandby), Failure::WrongServer);
        assert_eq!(tries.len(), 6);
    }

    #[test]
    fn without_tls_the_other_way_or_the_next_address_is_tried() {
        assert_eq!(all(route(SslMode::Prefer, Target::Any), Failure::Insecure).len(), 6);
        assert_eq!(all(route(SslMode::Require, Target::Any), Failure::Insecure).len(), 3);
    }
}
