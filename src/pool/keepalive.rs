//! When a connection counts as dead although nobody has closed it: the options of a node's SERVER, as libpq names them.
//!
//! A machine that loses its power sends no FIN and no RST. Whoever waits for it is told by his own kernel only, which
//! asks after a silence (`keepalives_idle`, then every `keepalives_interval`), and gives up after `keepalives_count`
//! questions, or when what was sent is not acknowledged for `tcp_user_timeout`.
//!
//! ```
//! use sharding::pool::keepalive::Keepalive;
//! let keepalive = Keepalive::default().with("keepalives_idle", "7").unwrap();
//! assert_eq!(keepalive.idle, 7);
//! assert!(keepalive.with("keepalives", "maybe").is_none());
//! ```

use serde::{Deserialize, Serialize};

/// The names of the options.
pub const OPTIONS: [&str; 5] =
    ["keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"];

/// See the module. 0 leaves a value to the system, as in libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    pub enabled: bool,
    /// Seconds.
    pub idle: u32,
    /// Seconds.
    pub interval: u32,
    pub count: u32,
    /// Milliseconds.
    pub user_timeout: u32,
}

impl Default for Keepalive {
    /// A lost machine is noticed after 36 s (measured by taking down a link while a statement ran), not after the two
    /// hours of the system's defaults.
    fn default() -> Keepalive {
        Keepalive { enabled: true, idle: 30, interval: 5, count: 0, user_timeout: 30_000 }
    }
}

impl Keepalive {
    /// The same with an option set; `None` if the value is not valid for it.
    pub fn with(mut self, option: &str, value: &str) -> Option<Keepalive> {
        // Linux takes no more than that for the first three.
        let number = |most: u32| value.parse::<u32>().ok().filter(|number| *number <= most);
        match option {
            "keepalives" => self.enabled = number(1)? == 1,
            "keepalives_idle" => self.idle = number(32_767)?,
            "keepalives_interval" => self.interval = number(32_767)?,
            "keepalives_count" => self.count = number(127)?,
            "tcp_user_timeout" => self.user_timeout = number(i32::MAX as u32)?,
            _ => return None,
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let default = Keepalive::default();
        for option in OPTIONS {
            assert!(default.with(option, "1").is_some(), "{option}");
            assert!(default.with(option, "0").is_some(), "{option}");
            for value in ["", "-1", "x", "99999999999"] {
                assert!(default.with(option, value).is_none(), "{option} {value}");
            }
        }
        assert!(default.with("host", "1").is_none());
        assert!(!default.with("keepalives", "0").unwrap().enabled);
    }
}
