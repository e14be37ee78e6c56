//! stub
use crate::catalog::ClusterMap;
use crate::error::Result;
use crate::pg::utility::Call;
pub fn run(_c: &Call, _m: &ClusterMap) -> Result<bool> {
    Ok(false)
}
