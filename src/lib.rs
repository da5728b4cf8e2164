pub mod count;
pub mod error;
pub mod snapshot;
