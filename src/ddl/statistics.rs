//! merged statistics
