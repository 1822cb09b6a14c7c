//! Being told of changes.

use std::{fmt, ptr::NonNull};

use block2::RcBlock;
use objc2::{
    rc::{Retained, autoreleasepool},
    runtime::{NSObjectProtocol, ProtocolObject},
};
use objc2_foundation::{NSNotification, NSNotificationCenter, NSString};

use crate::lend::contain;

/// Calls back at each change, from a thread of the system's, until it is dropped. A call that is under way then still
/// comes to its end.
#[must_use = "nothing is observed any more once it is dropped"]
pub struct Observation {
    observer: Retained<ProtocolObject<dyn NSObjectProtocol>>,
}

// SAFETY: the observer is only ever given back to the notification center, which may be used from any thread.
unsafe impl Send for Observation {}

// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Observation {}

impl Observation {
    /// Calls back at each notification of this name. A panic ends that call alone, and is reported as any other.
    pub(super) fn of(name: &NSString, callback: impl Fn() + Send + Sync + 'static) -> Observation {
        let block = RcBlock::new(move |_: NonNull<NSNotification>| contain(&callback));
        autoreleasepool(|_| {
            let center = NSNotificationCenter::defaultCenter();
            // SAFETY: the block may be called from any thread at any time, since what it owns is `Send` and `Sync`.
            let observer = unsafe { center.addObserverForName_object_queue_usingBlock(Some(name), None, None, &block) };
            Observation { observer }
        })
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        autoreleasepool(|_| {
            let center = NSNotificationCenter::defaultCenter();
            // SAFETY: the observer is one that the center gave.
            unsafe { center.removeObserver((*self.observer).as_ref()) };
        });
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn post(name: &NSString) {
        // SAFETY: no object is given.
        unsafe { NSNotificationCenter::defaultCenter().postNotificationName_object(name, None) };
    }

    fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + 'static) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        (count, move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[test]
    fn changes_are_told_until_the_end() {
        autoreleasepool(|_| {
            let (name, other) = (NSString::from_str("ane.test.told"), NSString::from_str("ane.test.other"));
            let ((first, note_first), (second, note_second)) = (counter(), counter());
            let observations = (Observation::of(&name, note_first), Observation::of(&name, note_second));
            post(&name);
            post(&other);
            drop(observations.0);
            post(&name);
            drop(observations.1);
            post(&name);
            assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (1, 2));
            // GNUstep gives observers with a reference that nobody owns, and so keeps their blocks.
            if cfg!(target_vendor = "apple") {
                assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1), "callbacks are dropped");
            }
        });
    }

    #[test]
    fn a_panic_does_not_get_out() {
        autoreleasepool(|_| {
            let name = NSString::from_str("ane.test.panic");
            let (count, note) = counter();
            let observation = Observation::of(&name, move || {
                note();
                panic!("in a callback");
            });
            post(&name);
            post(&name);
            drop(observation);
            assert_eq!(count.load(Ordering::SeqCst), 2);
        });
    }
}
