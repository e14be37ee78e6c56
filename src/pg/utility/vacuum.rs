//! stub
use crate::catalog::ClusterMap;
use crate::error::Result;
use crate::pg::utility::Call;
pub fn run(c: &Call, _m: &ClusterMap) -> Result<()> {
    c.run();
    Ok(())
}
pub fn reindex(c: &Call, _m: &ClusterMap) -> Result<()> {
    c.run();
    Ok(())
}
pub fn cluster(c: &Call, _m: &ClusterMap) -> Result<()> {
    c.run();
    Ok(())
}
