//! Running a model before its first request comes, so that no request pays for what engines make when first needed.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{batch::made_up, lane::Lane};
use crate::ane::{
    blocking::on_threads,
    errors::Result,
    limits::Limits,
    models::coreml_model::{CoreMlModel, put},
    resource_pool::Admission,
};

/// Runs the model once on made-up inputs, on this thread.
///
/// # Errors
/// [`ANEError::InvalidShape`](crate::ane::errors::ANEError::InvalidShape) where no inputs can be made up, and whatever
/// a run can end with.
pub(crate) fn warm_up(model: &CoreMlModel, admission: Admission) -> Result<()> {
    let run = run(model, || ());
    drop(admission);
    run
}

/// Runs a lane's model once in each of the admissions, on threads of its own. Each run keeps its session until all have
/// one, for so long at most: so that there are as many sessions then as there are admissions.
///
/// # Errors
/// As [`warm_up`].
pub(crate) async fn warm_up_together(lane: Arc<Lane>, admissions: Vec<Admission>, at_most: Duration) -> Result<()> {
    let threads = admissions.len();
    let meeting = Meeting { missing: Mutex::new(threads), complete: Condvar::new() };
    let runs = on_threads("ane-warm-up", threads, admissions, move |admission| {
        let mut seat = Some(Seat(&meeting));
        let run = run(&lane.model, || seat.take().into_iter().for_each(|seat| seat.wait(at_most)));
        drop(admission);
        run
    });
    runs.await?.into_iter().collect()
}

/// Runs the model once on made-up inputs. `meanwhile` is called when it has computed, with its session still taken.
fn run(model: &CoreMlModel, mut meanwhile: impl FnMut()) -> Result<()> {
    let features = made_up(model)?;
    let tensors = model.tensors(&features, None)?;
    let mut results = model.no_results();
    model.run(&tensors, &Limits::default(), &mut |port, tensor| {
        meanwhile();
        put(&mut results, port, tensor)
    })?;
    model.collect(&mut results).map(drop)
}

/// Where runs wait for each other.
struct Meeting {
    missing: Mutex<usize>,
    complete: Condvar,
}

/// A run's place in a meeting. It is there when this is dropped: also one that fails, so that the others do not wait
/// for it.
struct Seat<'a>(&'a Meeting);

impl Seat<'_> {
    /// Comes, and waits for the others, for so long at most.
    fn wait(self, at_most: Duration) {
        let Seat(meeting) = self;
        let until = Instant::now().checked_add(at_most);
        drop(self);
        let mut missing = meeting.missing.lock().unwrap_or_else(PoisonError::into_inner);
        while *missing > 0 {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            missing = meeting.complete.wait_timeout(missing, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        *self.0.missing.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.complete.notify_all();
    }
}
