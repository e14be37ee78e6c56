//! Work that was put off and has to reach the nodes before the transaction commits.

use crate::error::Result;

/// Sends what is pending. Called before commit, and before PREPARE TRANSACTION.
pub fn flush() -> Result<()> {
    Ok(())
}
