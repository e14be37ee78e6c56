//! The setting `sharding.failpoint`, for tests of what a crash leaves behind: see [`crate::transaction::failpoint`].

use crate::error::{Error, sqlstate};
use crate::pg::report;
use crate::pg::wait::{Event, Patience, Woken, wait_as};
use crate::transaction::failpoint::{Deed, Failpoint, Point};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};
use std::ffi::{CStr, CString, c_char, c_void};
use std::time::Instant;

static FAILPOINT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Defines the setting; called once from `_PG_init`.
pub fn install() {
    // SAFETY: the hook is in the library, which is never unloaded.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"sharding.failpoint",
            c"Stops or crashes two-phase commits at a step, for tests.",
            c"For example \"prepare 2: crash\" or \"decided: pause 1000\" (milliseconds).",
            &FAILPOINT,
            GucContext::Suset,
            GucFlags::NO_SHOW_ALL,
            Some(check),
            None,
            None,
        );
    }
}

unsafe extern "C-unwind" fn check(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: null or a string of the caller's.
    unsafe {
        let value = *value;
        value.is_null() || *value == 0 || parse(CStr::from_ptr(value)).is_some()
    }
}

fn parse(value: &CStr) -> Option<Failpoint> {
    value.to_str().ok()?.parse().ok()
}

/// A step of the commit is reached; `before` makes sure that what goes before it has happened.
pub fn reached(point: Point, before: impl FnOnce()) {
    let Some(failpoint) = FAILPOINT.get().and_then(|value| parse(&value)) else { return };
    if failpoint.point != point {
        return;
    }
    before();
    report::log(&Error::new(sqlstate::SUCCESS, format!("failpoint {point:?} is reached")));
    match failpoint.deed {
        // SAFETY: what the setting asks for.
        Deed::Crash => unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
        },
        Deed::Pause(time) => {
            let deadline = Instant::now() + time;
            while wait_as(Event::Failpoint, &[], Patience::callback(deadline)) != Woken::TimedOut {}
        }
    }
}
