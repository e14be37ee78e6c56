//! The seam to the nodes (signatures; the conversation is merged from its own branch).
use crate::catalog::NodeId;
use crate::error::{Error, Result};
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access { ReadAlone, ReadSnapshot, Read, Write }
#[derive(Clone, Debug)]
pub struct Param { pub oid: u32, pub binary: bool, pub value: Option<Vec<u8>> }
pub struct Statement<'a> { pub sql: &'a str, pub params: &'a [Param], pub result_binary: &'a [bool] }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch { All, Pages }
pub struct Row;
impl Row { pub fn len(&self) -> usize { 0 } pub fn get(&self, _i: usize) -> Option<&[u8]> { None } pub fn wire_size(&self) -> usize { 0 } }
pub struct Stream { node: NodeId }
fn todo<T>() -> Result<T> { Err(Error::unsupported("not merged")) }
impl Stream {
    pub fn open(node: NodeId, _s: &Statement, _a: Access, _f: Fetch) -> Result<Stream> { let _ = Stream { node }; todo() }
    pub fn wait_bound(&mut self) -> Result<()> { todo() }
    pub fn next(&mut self) -> Result<Option<Row>> { todo() }
    pub fn ready(&self) -> bool { true }
    pub fn rows_affected(&self) -> u64 { 0 }
    pub fn node(&self) -> NodeId { self.node }
}
pub fn wait_any(_s: &mut [&mut Stream]) -> Result<usize> { todo() }
pub fn execute(_n: NodeId, _sql: &str, _a: Access) -> Result<u64> { todo() }
pub fn execute_on(_n: &[NodeId], _sql: &str, _a: Access) -> Result<Vec<u64>> { todo() }
pub fn execute_each(_w: &[(NodeId, String)], _a: Access) -> Result<Vec<u64>> { todo() }
pub fn query(_n: NodeId, _sql: &str, _a: Access) -> Result<Vec<Vec<Option<String>>>> { todo() }
pub fn query_on(_n: &[NodeId], _sql: &str, _a: Access) -> Result<Vec<(NodeId, Vec<Vec<Option<String>>>)>> { todo() }
pub fn copy_in(_b: &[(NodeId, String, Vec<u8>)]) -> Result<Vec<u64>> { todo() }
pub fn execute_outside(_n: &[NodeId], _sql: &str) -> Result<()> { todo() }
pub fn set_constraints(_sql: &str) {}
pub fn used_in_transaction() -> Vec<NodeId> { Vec::new() }
