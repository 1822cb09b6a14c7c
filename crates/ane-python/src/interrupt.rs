//! Work without the GIL that Ctrl-C ends.
//!
//! Python handles signals on its main thread, and only while that thread runs Python. So what is called there runs on a
//! thread of ours, while the main one asks for signals now and then. That costs two changes of threads, some
//! microseconds; other threads work themselves.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use apple_silicon::ane::limits::Cancel;
use pyo3::{exceptions::PyMemoryError, prelude::*};

/// How long a signal waits at most.
const PATIENCE: Duration = Duration::from_millis(50);

/// Does `work` without the GIL. Where a signal's handler raises meanwhile, `cancel` is used, and its exception comes with
/// the result as soon as `work` has ended.
pub(crate) fn run<T: Send + 'static>(
    py: Python<'_>,
    cancel: &Cancel,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<(T, Option<PyErr>)> {
    if !is_main_thread(py)? {
        return Ok((py.detach(work), None));
    }
    let worker = Worker::take()?;
    let (answer, answered) = mpsc::channel();
    worker.start(Box::new(move || {
        // The caller waits for it, whatever comes.
        let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
    }))?;
    let (result, raised) = py.detach(move || {
        let mut raised = None;
        loop {
            match answered.recv_timeout(PATIENCE) {
                Ok(result) => return (Ok(result), raised),
                Err(RecvTimeoutError::Disconnected) => return (Err(no_thread("it ended")), raised),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(exception) = Python::attach(|py| py.check_signals()) {
                        cancel.cancel();
                        raised = Some(exception);
                    }
                }
            }
        }
    });
    worker.put_back();
    let result: Result<T, Box<dyn Any + Send>> = result?;
    Ok((result.unwrap_or_else(|panic| resume_unwind(panic)), raised))
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that works for the main thread; it ends when this is dropped.
struct Worker {
    jobs: Sender<Job>,
    /// A process that was forked has no threads of its parent's.
    process: u32,
}

/// The one that has nothing to do. None while it works, since a signal's handler may predict as well.
static IDLE: Mutex<Option<Worker>> = Mutex::new(None);

impl Worker {
    fn take() -> PyResult<Worker> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).take();
        match idle.filter(|worker| worker.process == process::id()) {
            Some(worker) => Ok(worker),
            None => Worker::new(),
        }
    }

    fn new() -> PyResult<Worker> {
        let (jobs, taken) = mpsc::channel::<Job>();
        let work = move || taken.into_iter().for_each(|job| job());
        thread::Builder::new().name("ane-predict".to_owned()).spawn(work).map_err(no_thread)?;
        Ok(Worker { jobs, process: process::id() })
    }

    fn start(&self, job: Job) -> PyResult<()> {
        self.jobs.send(job).map_err(no_thread)
    }

    fn put_back(self) {
        *IDLE.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }
}

fn no_thread(why: impl std::fmt::Display) -> PyErr {
    PyMemoryError::new_err(format!("there is no thread for a prediction: {why}"))
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let this = threading.call_method0("get_ident")?;
    threading.call_method0("main_thread")?.getattr("ident")?.eq(this)
}
