//! Where a test stops or crashes a two-phase commit, as the setting `sharding.failpoint` says it.
//!
//! | point | is reached |
//! |---|---|
//! | `prepare 2` | before PREPARE goes to the second participant; the first has been asked |
//! | `prepared` | all participants have voted for the commit |
//! | `decided` | the local transaction has committed, nobody has been told |
//! | `commit_prepared 2` | before COMMIT PREPARED goes to the second participant; the first has answered |
//!
//! ```
//! use sharding::transaction::failpoint::{Deed, Failpoint, Point};
//! let failpoint: Failpoint = "prepare 2: crash".parse().unwrap();
//! assert_eq!(failpoint, Failpoint { point: Point::Prepare(2), deed: Deed::Crash });
//! assert!("prepare: crash".parse::<Failpoint>().is_err());
//! ```

use std::str::FromStr;
use std::time::Duration;

/// A step of the commit. Participants are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Prepare(usize),
    Prepared,
    Decided,
    CommitPrepared(usize),
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The process is killed with SIGKILL.
    Crash,
    /// It stops for this long, and cannot be interrupted.
    Pause(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failpoint {
    pub point: Point,
    pub deed: Deed,
}

impl FromStr for Failpoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Failpoint, ()> {
        let (point, deed) = text.split_once(':').ok_or(())?;
        let mut words = point.split_whitespace();
        let name = words.next().ok_or(())?;
        let number = words.next().map(|n| n.parse::<usize>().map_err(drop)).transpose()?;
        let point = match (name, number) {
            ("prepare", Some(n)) => Point::Prepare(n),
            ("prepared", None) => Point::Prepared,
            ("decided", None) => Point::Decided,
            ("commit_prepared", Some(n)) => Point::CommitPrepared(n),
            _ => return Err(()),
        };
        let mut words = words.chain(deed.split_whitespace());
        let deed = match (words.next(), words.next(), words.next()) {
            (Some("crash"), None, None) => Deed::Crash,
            (Some("pause"), Some(ms), None) => Deed::Pause(Duration::from_millis(ms.parse().map_err(drop)?)),
            _ => return Err(()),
        };
        Ok(Failpoint { point, deed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_failpoint_is_refused() {
        let pause = Deed::Pause(Duration::from_millis(1500));
        assert_eq!("decided: pause 1500".parse(), Ok(Failpoint { point: Point::Decided, deed: pause }));
        assert_eq!(
            " commit_prepared 3 :crash ".parse(),
            Ok(Failpoint { point: Point::CommitPrepared(3), deed: Deed::Crash })
        );
        for text in [
            "",
            "decided",
            "decided: ",
            "decided 1: crash",
            "prepare x: crash",
            "decided: pause",
            "ready: crash",
            "decided: crash now",
            "prepared crash: crash",
        ] {
            assert_eq!(text.parse::<Failpoint>(), Err(()), "{text}");
        }
    }
}
