//! Objects that are let go of within a pool, wherever that happens.

use std::ops::Deref;

use objc2::{
    Message,
    rc::{Retained, autoreleasepool},
};

/// An object that what is public here has. Whoever drops it need know nothing of pools, and yet what the object autoreleases
/// as it goes is not kept for as long as the thread lives.
pub(crate) struct Kept<T: Message>(Option<Retained<T>>);

impl<T: Message> Kept<T> {
    pub(crate) fn new(object: Retained<T>) -> Kept<T> {
        Kept(Some(object))
    }
}

impl<T: Message> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect("it is there until the drop")
    }
}

impl<T: Message> Drop for Kept<T> {
    fn drop(&mut self) {
        autoreleasepool(|_| drop(self.0.take()));
    }
}
