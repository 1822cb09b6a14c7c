//! What runs in blocks: values that are lent to one, and panics that must not leave it.

use std::{
    cell::Cell,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use objc2::rc::autoreleasepool;

/// Runs `call`, whose block hands what it was lent to `take`, and gives what that made of it; `None` where the block was
/// not called. A second call is ignored. A panic goes around the frames between, which are not Rust's.
pub(crate) fn lend<A, R>(take: impl FnOnce(A) -> R, call: impl FnOnce(&dyn Fn(A))) -> Option<R> {
    let (take, result) = (Cell::new(Some(take)), Cell::new(None));
    call(&|lent| {
        if let Some(take) = take.take() {
            result.set(Some(catch_unwind(AssertUnwindSafe(|| take(lent)))));
        }
    });
    result.into_inner().map(|result| result.unwrap_or_else(|panic| resume_unwind(panic)))
}

/// Runs all that a block does, within a pool. A panic ends it and is reported as any other, but goes no further: the frames
/// around a block are not Rust's.
pub(crate) fn contain(body: impl FnOnce()) {
    autoreleasepool(|_| {
        // What a panic carries is forgotten, since dropping it may panic again.
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(mem::forget);
    });
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn what_is_lent_is_taken_once() {
        let twice = |block: &dyn Fn(i32)| {
            block(1);
            block(5);
        };
        assert_eq!(lend(|n| n + 1, twice), Some(2));
        assert_eq!(lend(|n: i32| n, |_| ()), None);
    }

    #[test]
    fn a_panic_comes_out_at_the_caller() {
        let caught = catch_unwind(|| lend(|_: i32| panic!("taken"), |block| block(1)));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"taken"));
    }

    #[test]
    fn a_panic_does_not_get_out() {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        contain(|| panic_any(Payload));
    }
}
