//! Which of several servers is meant: libpq's `target_session_attrs`.
//!
//! A server says what it is while it connects (`in_hot_standby`, `default_transaction_read_only`). The default is
//! `read-write`, not libpq's `any`: a former primary that has come back as a standby must not answer with old rows.
//!
//! ```
//! use sharding::pool::target::Target;
//! let standby = |name: &str| (name == "in_hot_standby").then_some("on");
//! assert!(Target::ReadWrite.objection(standby).is_some());
//! assert!(Target::parse("standby").unwrap().objection(standby).is_none());
//! ```

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    Any,
    #[default]
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby if there is one, else any.
    PreferStandby,
}

impl Target {
    pub fn parse(text: &str) -> Option<Target> {
        Some(match text {
            "any" => Target::Any,
            "read-write" => Target::ReadWrite,
            "read-only" => Target::ReadOnly,
            "primary" => Target::Primary,
            "standby" => Target::Standby,
            "prefer-standby" => Target::PreferStandby,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Target::Any => "any",
            Target::ReadWrite => "read-write",
            Target::ReadOnly => "read-only",
            Target::Primary => "primary",
            Target::Standby => "standby",
            Target::PreferStandby => "prefer-standby",
        }
    }

    /// What to look for in turn; each time all hosts are asked.
    pub fn passes(self) -> &'static [Target] {
        match self {
            Target::Any => &[Target::Any],
            Target::ReadWrite => &[Target::ReadWrite],
            Target::ReadOnly => &[Target::ReadOnly],
            Target::Primary => &[Target::Primary],
            Target::Standby => &[Target::Standby],
            Target::PreferStandby => &[Target::Standby, Target::Any],
        }
    }

    /// What is wrong with a server that reports these parameters; `None` if it will do.
    pub fn objection<'a>(self, parameter: impl Fn(&str) -> Option<&'a str>) -> Option<&'static str> {
        let is_on = |name: &str| parameter(name) == Some("on");
        let standby = is_on("in_hot_standby");
        let read_only = standby || is_on("default_transaction_read_only");
        match self {
            Target::Any | Target::PreferStandby => None,
            Target::ReadWrite if standby => Some("the server is a standby"),
            Target::ReadWrite => read_only.then_some("the server is read-only"),
            Target::ReadOnly => (!read_only).then_some("the server is not read-only"),
            Target::Primary => standby.then_some("the server is a standby"),
            Target::Standby => (!standby).then_some("the server is no standby"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_server_is_told_from_the_others() {
        let all = ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"];
        for (standby, read_only, fits) in [
            ("off", "off", &["any", "read-write", "primary", "prefer-standby"][..]),
            ("off", "on", &["any", "read-only", "primary", "prefer-standby"]),
            ("on", "off", &["any", "read-only", "standby", "prefer-standby"]),
        ] {
            let parameter = |name: &str| match name {
                "in_hot_standby" => Some(standby),
                "default_transaction_read_only" => Some(read_only),
                _ => None,
            };
            for name in all {
                let target = Target::parse(name).unwrap();
                assert_eq!(target.name(), name);
                assert_eq!(target.objection(parameter).is_none(), fits.contains(&name), "{name} {standby} {read_only}");
            }
        }
        assert!(Target::parse("master").is_none());
    }
}
