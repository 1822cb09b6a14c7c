//! What the pool shares between threads is made of. A test puts the types of a model checker in this module's place.

pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
