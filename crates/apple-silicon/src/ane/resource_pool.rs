//! Admission by two resources at once: slots, of which each run takes one, and memory in bytes.
//!
//! Knows no clock, runtime or model. What is free and who waits is the ledger's; here are the guards and futures.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

pub use super::ledger::PoolStatistics;
use super::{
    errors::{ANEError, Result},
    ledger::{Exit, Free, Ledger, Refusal, Request, Ticket},
    sync::Arc,
};

/// Slots and memory that are lent and given back. Clones share them.
///
/// Requests are served first come first served, from their first poll on. The one that has waited longest holds up
/// all others until both its slot and its memory are free, so a large request gets its turn. Who gives back hands on
/// to those that wait, so nobody overtakes them. A request that is dropped gives back everything, at any point.
///
/// Memory is counted in bytes up to a total of 4 GiB, and above that in the smallest power of two of which the total
/// has less than 2^32: 32 bytes for 64 GiB. The total is rounded down to it and each request up, so never more is
/// lent than there is.
///
/// ```
/// use apple_silicon::ane::{errors::ANEError, resource_pool::Pool};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let pool = Pool::new(2, 512);
/// let admission = pool.admit(300).await?;
/// assert!(matches!(pool.try_admit(300), Err(ANEError::ResourceLimit(_))));
/// drop(admission);
/// assert!(pool.try_admit(300).is_ok());
/// # Ok::<(), ANEError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Pool {
    ledger: Arc<Ledger>,
}

impl Pool {
    /// A pool of `max_concurrent` slots (at most 65 535) and `total_mb` MB of 2^20 bytes.
    pub fn new(max_concurrent: usize, total_mb: usize) -> Pool {
        Pool::with_bytes(max_concurrent, from_mb(total_mb))
    }

    /// A pool of `max_concurrent` slots (at most 65 535) and `total_bytes`; `usize::MAX` is as good as no limit.
    pub fn with_bytes(max_concurrent: usize, total_bytes: usize) -> Pool {
        Pool { ledger: Arc::new(Ledger::new(max_concurrent, total_bytes)) }
    }

    /// Waits for a slot and `mb` MB of 2^20 bytes, behind all that wait already.
    ///
    /// # Errors
    /// [`ANEError::ResourceLimit`] at the first poll if the pool has not that much in all, and when it is closed.
    pub fn admit(&self, mb: usize) -> Admit {
        self.admit_bytes(from_mb(mb))
    }

    /// Waits for a slot and so many bytes, behind all that wait already.
    ///
    /// # Errors
    /// As [`Pool::admit`].
    #[inline]
    pub fn admit_bytes(&self, bytes: usize) -> Admit {
        Admit { place: Place { ledger: Some(self.ledger.clone()), request: Request::admission(bytes), ticket: None } }
    }

    /// Takes a slot and `mb` MB of 2^20 bytes if they are free and nobody waits.
    ///
    /// # Errors
    /// [`ANEError::ResourceLimit`] otherwise, with what is free.
    pub fn try_admit(&self, mb: usize) -> Result<Admission> {
        self.try_admit_bytes(from_mb(mb))
    }

    /// Takes a slot and so many bytes if they are free and nobody waits.
    ///
    /// # Errors
    /// As [`Pool::try_admit`].
    pub fn try_admit_bytes(&self, bytes: usize) -> Result<Admission> {
        let request = Request::admission(bytes);
        self.ledger.try_take(request).map_err(|why| refused(request, why))?;
        Ok(Admission { ledger: self.ledger.clone(), bytes })
    }

    /// Waits for so many bytes without a slot, in the same queue: for what stays, such as a model's weights.
    ///
    /// # Errors
    /// As [`Pool::admit`].
    pub fn reserve_bytes(&self, bytes: usize) -> Reserve {
        let request = Request::reservation(bytes);
        Reserve { place: Place { ledger: Some(self.ledger.clone()), request, ticket: None } }
    }

    /// Takes so many bytes without a slot if they are free, and there is enough for all who wait besides.
    ///
    /// # Errors
    /// As [`Pool::try_admit`].
    pub fn try_reserve_bytes(&self, bytes: usize) -> Result<Reservation> {
        let request = Request::reservation(bytes);
        self.ledger.try_take(request).map_err(|why| refused(request, why))?;
        Ok(Reservation { ledger: self.ledger.clone(), bytes })
    }

    /// Refuses all who wait and all who will ask. What was granted stays valid, and may still grow and shrink.
    pub fn close(&self) {
        self.ledger.close();
    }

    /// Whether [`Pool::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.ledger.is_closed()
    }

    /// Whether those that wait have asked for more memory than is free.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.ledger.is_short_of_memory()
    }

    /// What is lent now, and what has happened since the pool was made. Everything is counted, nothing is sampled.
    pub fn statistics(&self) -> PoolStatistics {
        self.ledger.statistics()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Free { slots, all_slots, bytes, all_bytes } = self.ledger.free();
        f.debug_struct("Pool")
            .field("slots", &all_slots)
            .field("slots_free", &slots)
            .field("bytes", &all_bytes)
            .field("bytes_free", &bytes)
            .finish_non_exhaustive()
    }
}

/// A wait for an [`Admission`]. It takes its place in the queue when it is first polled.
#[must_use = "nobody waits until it is polled"]
pub struct Admit {
    place: Place,
}

impl Admit {
    /// Gives up since a deadline has passed: as dropping it, but counted as a timeout.
    pub fn expire(mut self) {
        self.place.leave(Exit::TimedOut);
    }
}

impl Future for Admit {
    type Output = Result<Admission>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Admission>> {
        let bytes = self.place.request.bytes();
        self.place.poll(context).map_ok(|ledger| Admission { ledger, bytes })
    }
}

impl fmt::Debug for Admit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.describe(f, "Admit")
    }
}

/// A wait for a [`Reservation`]. It takes its place in the queue when it is first polled.
#[must_use = "nobody waits until it is polled"]
pub struct Reserve {
    place: Place,
}

impl Reserve {
    /// Gives up since a deadline has passed: as dropping it, but counted as a timeout.
    pub fn expire(mut self) {
        self.place.leave(Exit::TimedOut);
    }
}

impl Future for Reserve {
    type Output = Result<Reservation>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Reservation>> {
        let bytes = self.place.request.bytes();
        self.place.poll(context).map_ok(|ledger| Reservation { ledger, bytes })
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.describe(f, "Reserve")
    }
}

/// A slot and memory, until it is dropped.
#[must_use = "dropping the admission gives back its slot and its memory"]
pub struct Admission {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Admission {
    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `extra` bytes more if they are free, and says whether they were.
    ///
    /// It may take what others wait for. That starves nobody: as long as somebody waits nothing is granted past the
    /// head of the queue, so those that can grow only become fewer, and the head gets what they all give back.
    pub fn try_grow(&mut self, extra: usize) -> bool {
        let Some(bytes) = self.bytes.checked_add(extra) else { return false };
        let grown = self.ledger.grow(self.bytes, bytes);
        if grown {
            self.bytes = bytes;
        }
        grown
    }

    /// Gives back what it holds beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        if bytes < self.bytes {
            let before = std::mem::replace(&mut self.bytes, bytes);
            self.ledger.shrink(before, bytes);
        }
    }
}

impl Drop for Admission {
    #[inline]
    fn drop(&mut self) {
        self.ledger.end_admission(self.bytes);
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Memory, until it is dropped.
#[must_use = "dropping the reservation gives back its memory"]
pub struct Reservation {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Reservation {
    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.end_reservation(self.bytes);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A request, its ticket once it waits, and the ledger until it is answered.
struct Place {
    ledger: Option<Arc<Ledger>>,
    request: Request,
    ticket: Option<Ticket>,
}

impl Place {
    /// Gives the ledger when the request was granted.
    #[inline]
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Arc<Ledger>>> {
        if self.ticket.is_none() {
            let request = self.request;
            let admitted = self.ledger.take_if(|ledger| ledger.take_at_once(request));
            if let Some(ledger) = admitted {
                return Poll::Ready(Ok(ledger));
            }
        }
        self.poll_queue(context)
    }

    #[cold]
    fn poll_queue(&mut self, context: &mut Context<'_>) -> Poll<Result<Arc<Ledger>>> {
        let Some(ledger) = self.ledger.take() else {
            return Poll::Ready(Err(ANEError::Internal("a request was polled again after its answer".to_owned())));
        };
        let answer = match self.ticket {
            None => ledger.enter(self.request, context.waker(), &mut self.ticket),
            Some(ticket) => ledger.look(ticket, context.waker()),
        };
        match answer {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(ledger)),
            Poll::Ready(Err(why)) => Poll::Ready(Err(refused(self.request, why))),
            Poll::Pending => {
                self.ledger = Some(ledger);
                Poll::Pending
            }
        }
    }

    #[cold]
    fn leave(&mut self, exit: Exit) {
        if let Some(ledger) = self.ledger.take() {
            ledger.leave(self.ticket, exit);
        }
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let waits = self.ledger.is_some() && self.ticket.is_some();
        f.debug_struct(name).field("bytes", &self.request.bytes()).field("waits", &waits).finish_non_exhaustive()
    }
}

impl Drop for Place {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.leave(Exit::Cancelled);
        }
    }
}

fn refused(request: Request, why: Refusal) -> ANEError {
    let what = if request.is_admission() { "a run" } else { "a reservation" };
    let asked = Size(request.bytes());
    ANEError::ResourceLimit(match why {
        Refusal::Closed => format!("{what} asked for {asked} of a pool that is closed; make a new pool"),
        Refusal::NeverFits(Free { all_slots, all_bytes, .. }) => format!(
            "{what} asked for {asked}, but the pool has {all_slots} slots and {} in all; give the pool more, or ask \
             for less",
            Size(all_bytes)
        ),
        Refusal::Busy(Free { slots, all_slots, bytes, all_bytes }, waiting) => format!(
            "{what} asked for {asked}, but {slots} of {all_slots} slots and {} of {} are free and {waiting} requests \
             wait; wait for it, or try again later",
            Size(bytes),
            Size(all_bytes)
        ),
    })
}

/// A number of bytes, as people write it.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{} MB", bytes >> 20),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

fn from_mb(mb: usize) -> usize {
    mb.saturating_mul(1 << 20)
}
