//! What of a pool is free, and who waits for it.
//!
//! All of it is in one word as long as nobody waits: taking is one compare-and-swap, and giving back another. Whoever
//! must wait, or has more to do, takes a lock and *freezes* the word (sets [`FROZEN`]). From then on the word changes
//! under the lock alone, since every compare-and-swap expects a word that is not frozen. It thaws when nobody waits.
//! So no release slips between a waiter's look at the word and its place in the queue: either it came before the
//! freeze and the waiter sees it, or it takes the lock after the waiter and finds it in the queue.

use std::{
    mem,
    task::{Poll, Waker},
};

use smallvec::SmallVec;

use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// What a pool has lent, and what has become of the requests. Each request is counted once: as an admission or a
/// reservation, as rejected for one of four reasons, or as cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// Slots in all.
    pub slots: usize,
    /// Slots that are lent.
    pub slots_in_use: usize,
    /// The most slots that were lent at once.
    pub slots_peak: usize,
    /// Bytes in all.
    pub bytes: usize,
    /// Bytes that are lent, in whole units of the pool.
    pub bytes_in_use: usize,
    /// The most bytes that were lent at once.
    pub bytes_peak: usize,
    /// Of the bytes that are lent, those of reservations.
    pub bytes_reserved: usize,
    /// Requests that wait now.
    pub waiting: usize,
    /// Admissions so far.
    pub admissions: u64,
    /// Reservations so far.
    pub reservations: u64,
    /// Of admissions and reservations, those that had to wait.
    pub waits: u64,
    /// Requests for more than the pool has.
    pub rejected_never_fits: u64,
    /// Requests that did not want to wait and would have had to.
    pub rejected_busy: u64,
    /// Requests whose deadline passed.
    pub rejected_timed_out: u64,
    /// Requests that met a closed pool.
    pub rejected_closed: u64,
    /// Requests that were dropped after their first poll and before they knew their answer.
    pub cancelled: u64,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    slots: u64,
    bytes: usize,
}

impl Request {
    #[inline]
    pub(crate) fn admission(bytes: usize) -> Request {
        Request { slots: 1, bytes }
    }

    pub(crate) fn reservation(bytes: usize) -> Request {
        Request { slots: 0, bytes }
    }

    #[inline]
    pub(crate) fn is_admission(self) -> bool {
        self.slots == 1
    }

    #[inline]
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }
}

/// Why a request is refused.
pub(crate) enum Refusal {
    Closed,
    NeverFits(Free),
    /// With the number of those that wait.
    Busy(Free, usize),
}

/// What is free of what there is.
pub(crate) struct Free {
    pub(crate) slots: u64,
    pub(crate) all_slots: u64,
    pub(crate) bytes: usize,
    pub(crate) all_bytes: usize,
}

/// Why a request is withdrawn.
pub(crate) enum Exit {
    Cancelled,
    TimedOut,
}

/// A place in the queue.
pub(crate) type Ticket = u32;

/// The low 32 bits of the word: the free memory, in units.
const UNIT_BITS: u32 = 32;
/// One slot. The next 16 bits are the free slots.
const SLOT: u64 = 1 << UNIT_BITS;
const SLOTS_MAX: u64 = 0xFFFF;
/// One admission. The next 15 bits count those that did not wait, so that counting costs nothing.
const COUNT: u64 = SLOT * (SLOTS_MAX + 1);
/// The top bit: the word changes under the lock alone.
const FROZEN: u64 = 1 << 63;
/// From here on the count is full, or the word is frozen: one comparison for both.
const COUNT_FULL: u64 = FROZEN - COUNT;

/// The books of one pool. The caller pays back what it took, once.
///
/// Laid out by hand: the word, the lock and what is used with it share a cache line, and are apart from the count of
/// the `Arc` around it, so that a hand-over between two cores moves few lines.
#[repr(C, align(128))]
pub(crate) struct Ledger {
    word: AtomicU64,
    queue: Mutex<Queue>,
    /// The word when nothing is lent.
    total: u64,
    /// A unit of memory is 2 to this power bytes.
    unit: u32,
    slots_peak: AtomicU64,
    units_peak: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(slots: usize, bytes: usize) -> Ledger {
        let unit = (usize::BITS - bytes.leading_zeros()).saturating_sub(UNIT_BITS);
        let total = SLOT * SLOTS_MAX.min(slots as u64) + (bytes as u64 >> unit);
        Ledger {
            word: AtomicU64::new(total),
            total,
            unit,
            slots_peak: AtomicU64::new(0),
            units_peak: AtomicU64::new(0),
            queue: Mutex::new(Queue::new()),
        }
    }

    /// Takes what an admission asks for if that is possible without the lock.
    #[inline]
    pub(crate) fn take_at_once(&self, request: Request) -> bool {
        let wanted = self.units(request.bytes);
        let fits = |word| request.is_admission() && word < COUNT_FULL && slots(word) > 0 && units(word) >= wanted;
        let taken = self
            .word
            .try_update(Ordering::Acquire, Ordering::Relaxed, |word| fits(word).then(|| word + COUNT - SLOT - wanted));
        if let Ok(before) = taken {
            self.note_peaks(before - SLOT - wanted);
        }
        taken.is_ok()
    }

    /// Takes what is asked for if it is free and nobody waits.
    pub(crate) fn try_take(&self, request: Request) -> Result<(), Refusal> {
        if self.take_at_once(request) {
            return Ok(());
        }
        let mut frozen = self.freeze();
        if frozen.take(request)? {
            return Ok(());
        }
        frozen.queue.counts.rejected_busy += 1;
        Err(Refusal::Busy(self.free_of(frozen.word), frozen.queue.waiting as usize))
    }

    /// Takes what is asked for, or gives a ticket.
    pub(crate) fn enter(
        &self,
        request: Request,
        task: &Waker,
        ticket: &mut Option<Ticket>,
    ) -> Poll<Result<(), Refusal>> {
        let task = task.clone();
        let mut frozen = self.freeze();
        match frozen.take(request) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => {
                // They fit into the word, since less than the total was asked for.
                let (slots, units) = (request.slots as u8, self.units(request.bytes) as u32);
                *ticket = Some(frozen.queue.push(slots, units, task));
                Poll::Pending
            }
            Err(why) => Poll::Ready(Err(why)),
        }
    }

    /// What has become of a ticket. An answer ends it; until then `task` is woken when there is one.
    pub(crate) fn look(&self, ticket: Ticket, task: &Waker) -> Poll<Result<(), Refusal>> {
        let mut queue = self.lock();
        let waiter = &mut queue.waiters[ticket as usize];
        let (state, slots, units) = (waiter.state, waiter.slots, waiter.units);
        if state == State::Waiting {
            let known = waiter.task.as_ref().is_some_and(|known| known.will_wake(task));
            let stale = if known { None } else { waiter.task.replace(task.clone()) };
            // Not under the lock: the last of a task's wakers may drop the task, and what that holds of the pool.
            drop(queue);
            drop(stale);
            return Poll::Pending;
        }
        queue.vacate(ticket);
        if state == State::Refused {
            queue.counts.rejected_closed += 1;
            return Poll::Ready(Err(Refusal::Closed));
        }
        queue.waits += 1;
        queue.count(slots.into(), units.into());
        Poll::Ready(Ok(()))
    }

    /// Withdraws a request. What its ticket was granted goes to the next ones.
    pub(crate) fn leave(&self, ticket: Option<Ticket>, exit: Exit) {
        let mut frozen = self.freeze();
        match exit {
            Exit::Cancelled => frozen.queue.counts.cancelled += 1,
            Exit::TimedOut => frozen.queue.counts.rejected_timed_out += 1,
        }
        let mut task = None;
        if let Some(ticket) = ticket {
            let Waiter { state, slots, units, .. } = frozen.queue.waiters[ticket as usize];
            match state {
                State::Waiting => task = frozen.queue.resolve(ticket, State::Refused),
                State::Granted => frozen.word += u64::from(slots) * SLOT + u64::from(units),
                State::Refused => {}
            }
            frozen.queue.vacate(ticket);
        }
        frozen.hand_on();
        drop(task);
    }

    /// Takes what an admission of `before` bytes lacks to `after`, whoever waits.
    pub(crate) fn grow(&self, before: usize, after: usize) -> bool {
        let wanted = self.units(after) - self.units(before);
        let taken = self.word.try_update(Ordering::Acquire, Ordering::Relaxed, |word| {
            (word < FROZEN && units(word) >= wanted).then(|| word - wanted)
        });
        match taken {
            Ok(word) => self.note_peaks(word - wanted),
            Err(word) if word < FROZEN => return false,
            Err(_) => return self.freeze().take_free(0, wanted),
        }
        true
    }

    /// Takes back what an admission of `before` bytes has beyond `after`.
    pub(crate) fn shrink(&self, before: usize, after: usize) {
        self.give_back(self.units(before) - self.units(after));
    }

    #[inline]
    pub(crate) fn end_admission(&self, bytes: usize) {
        self.give_back(SLOT + self.units(bytes));
    }

    pub(crate) fn end_reservation(&self, bytes: usize) {
        let back = self.units(bytes);
        let mut frozen = self.freeze();
        frozen.queue.reserved -= back;
        frozen.word += back;
        frozen.hand_on();
    }

    /// Refuses all tickets and all further requests.
    pub(crate) fn close(&self) {
        let mut frozen = self.freeze();
        frozen.queue.closed = true;
        let mut tasks = Tasks::new();
        while frozen.queue.head != NOBODY {
            let head = frozen.queue.head;
            tasks.extend(frozen.queue.resolve(head, State::Refused));
        }
        drop(frozen);
        tasks.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether those that wait have asked for more memory than is free.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        let queue = self.lock();
        queue.wanted > units(self.word.load(Ordering::Relaxed))
    }

    pub(crate) fn free(&self) -> Free {
        self.free_of(self.word.load(Ordering::Relaxed))
    }

    pub(crate) fn statistics(&self) -> PoolStatistics {
        let queue = self.lock();
        let word = self.word.load(Ordering::Acquire);
        let used = self.total - word % COUNT;
        PoolStatistics {
            slots: slots(self.total) as usize,
            slots_in_use: slots(used) as usize,
            // Who raised the use may not have raised the peak yet.
            slots_peak: slots(used).max(self.slots_peak.load(Ordering::Relaxed)) as usize,
            bytes: self.bytes(units(self.total)),
            bytes_in_use: self.bytes(units(used)),
            bytes_peak: self.bytes(units(used).max(self.units_peak.load(Ordering::Relaxed))),
            bytes_reserved: self.bytes(queue.reserved),
            waiting: queue.waiting as usize,
            admissions: queue.admissions + word % FROZEN / COUNT,
            waits: queue.waits,
            ..queue.counts
        }
    }

    #[inline]
    fn give_back(&self, back: u64) {
        let given =
            self.word.try_update(Ordering::Release, Ordering::Relaxed, |word| (word < FROZEN).then(|| word + back));
        if given.is_err() {
            self.hand_on(back);
        }
    }

    #[cold]
    fn hand_on(&self, back: u64) {
        let mut frozen = self.freeze();
        frozen.word += back;
        frozen.hand_on();
    }

    /// Costs a load each where no peak is passed, which is the rule.
    #[inline]
    fn note_peaks(&self, word: u64) {
        let used = self.total - word % COUNT;
        for (peak, now) in [(&self.slots_peak, slots(used)), (&self.units_peak, units(used))] {
            if now > peak.load(Ordering::Relaxed) {
                peak.fetch_max(now, Ordering::Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // What a panicking thread left behind is whole: code of others never runs in the middle of a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn freeze(&self) -> Frozen<'_> {
        let queue = self.lock();
        let mut word = self.word.load(Ordering::Relaxed);
        if word < FROZEN {
            word = self.word.fetch_or(FROZEN, Ordering::Acquire);
        }
        Frozen { ledger: self, queue, word: word % FROZEN }
    }

    fn free_of(&self, word: u64) -> Free {
        Free {
            slots: slots(word),
            all_slots: slots(self.total),
            bytes: self.bytes(units(word)),
            all_bytes: self.bytes(units(self.total)),
        }
    }

    /// Rounded up, so that never more is lent than there is.
    #[inline]
    fn units(&self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        let rest = bytes & ((1 << self.unit) - 1);
        (bytes >> self.unit) + u64::from(rest > 0)
    }

    fn bytes(&self, units: u64) -> usize {
        (units << self.unit) as usize
    }
}

/// The ledger with its lock held and its word frozen. The word thaws when this is dropped and nobody waits.
struct Frozen<'a> {
    ledger: &'a Ledger,
    queue: MutexGuard<'a, Queue>,
    /// Written back in the end, so that it may be changed freely. Without [`FROZEN`].
    word: u64,
}

impl Frozen<'_> {
    /// Takes what is asked for, unless somebody waits who may be delayed by it, or it is not free.
    fn take(&mut self, request: Request) -> Result<bool, Refusal> {
        let wanted = self.ledger.units(request.bytes);
        let total = self.ledger.total;
        if self.queue.closed {
            self.queue.counts.rejected_closed += 1;
            return Err(Refusal::Closed);
        }
        if request.slots > slots(total) || wanted > units(total) {
            self.queue.counts.rejected_never_fits += 1;
            return Err(Refusal::NeverFits(self.ledger.free_of(total)));
        }
        // Who asks for memory alone delays nobody where there is enough for all who wait: they wait for slots.
        let passes = request.slots == 0 && units(self.word) >= wanted + self.queue.wanted;
        let taken = (self.queue.waiting == 0 || passes) && self.take_free(request.slots, wanted);
        if taken {
            self.queue.count(request.slots, wanted);
            // The word's count may be full, which is one of the ways to get here.
            self.queue.admissions += self.word / COUNT;
            self.word %= COUNT;
        }
        Ok(taken)
    }

    fn take_free(&mut self, wanted_slots: u64, wanted: u64) -> bool {
        let fits = slots(self.word) >= wanted_slots && units(self.word) >= wanted;
        if fits {
            self.word -= wanted_slots * SLOT + wanted;
            self.ledger.note_peaks(self.word);
        }
        fits
    }

    /// Grants what is free to those that wait, in their order, and wakes them.
    fn hand_on(mut self) {
        let mut tasks = Tasks::new();
        while let Some(Waiter { slots, units, .. }) = self.queue.waiters.get(self.queue.head as usize) {
            if !self.take_free(u64::from(*slots), u64::from(*units)) {
                break;
            }
            let head = self.queue.head;
            tasks.extend(self.queue.resolve(head, State::Granted));
        }
        // Not under the lock: a task may run at once and use the pool.
        drop(self);
        tasks.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let thaws = self.queue.waiting == 0 && !self.queue.closed;
        let frozen = if thaws { 0 } else { FROZEN };
        self.ledger.word.store(self.word + frozen, Ordering::Release);
    }
}

/// Who waits, in a list of places that are used again, and what is counted under the lock. What each wait changes
/// comes first.
#[repr(C)]
struct Queue {
    head: Ticket,
    last: Ticket,
    /// The first of the places that nobody has. They are linked, too.
    vacant: Ticket,
    waiting: u32,
    /// Units that those who wait have asked for.
    wanted: u64,
    waits: u64,
    /// Without those that are counted in the word.
    admissions: u64,
    waiters: Vec<Waiter>,
    /// Units that reservations hold.
    reserved: u64,
    closed: bool,
    /// What is counted rarely.
    counts: PoolStatistics,
}

/// In a cache line of its own, since its neighbours may be another core's.
#[repr(align(64))]
struct Waiter {
    task: Option<Waker>,
    state: State,
    slots: u8,
    units: u32,
    before: Ticket,
    after: Ticket,
}

/// A waiter leaves the list when it is granted or refused, but keeps its place until it knows.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Waiting,
    Granted,
    Refused,
}

/// Before the head and after the last.
const NOBODY: Ticket = Ticket::MAX;

/// Most releases wake one task. More than these are rare enough to allocate.
type Tasks = SmallVec<[Waker; 8]>;

impl Queue {
    fn new() -> Queue {
        Queue {
            head: NOBODY,
            last: NOBODY,
            vacant: NOBODY,
            closed: false,
            waiting: 0,
            wanted: 0,
            admissions: 0,
            waits: 0,
            waiters: Vec::new(),
            reserved: 0,
            counts: PoolStatistics::default(),
        }
    }

    fn push(&mut self, slots: u8, units: u32, task: Waker) -> Ticket {
        let waiter = Waiter { task: Some(task), state: State::Waiting, slots, units, before: NOBODY, after: NOBODY };
        let mut ticket = self.vacant;
        match self.waiters.get_mut(ticket as usize) {
            Some(place) => self.vacant = mem::replace(place, waiter).after,
            None => {
                // A place takes 64 bytes, so memory ends before the tickets do.
                ticket = self.waiters.len() as Ticket;
                self.waiters.push(waiter);
            }
        }
        self.link(self.last, ticket);
        self.link(ticket, NOBODY);
        self.waiting += 1;
        self.wanted += u64::from(units);
        ticket
    }

    /// Takes a waiter out of the list and gives its task.
    fn resolve(&mut self, ticket: Ticket, state: State) -> Option<Waker> {
        let waiter = &mut self.waiters[ticket as usize];
        waiter.state = state;
        let (task, before, after, units) = (waiter.task.take(), waiter.before, waiter.after, waiter.units);
        self.link(before, after);
        self.waiting -= 1;
        self.wanted -= u64::from(units);
        task
    }

    fn link(&mut self, before: Ticket, after: Ticket) {
        match before {
            NOBODY => self.head = after,
            before => self.waiters[before as usize].after = after,
        }
        match after {
            NOBODY => self.last = before,
            after => self.waiters[after as usize].before = before,
        }
    }

    fn vacate(&mut self, ticket: Ticket) {
        self.waiters[ticket as usize].after = self.vacant;
        self.vacant = ticket;
    }

    fn count(&mut self, slots: u64, units: u64) {
        self.admissions += slots;
        if slots == 0 {
            self.counts.reservations += 1;
            self.reserved += units;
        }
    }
}

fn slots(word: u64) -> u64 {
    word / SLOT % (SLOTS_MAX + 1)
}

fn units(word: u64) -> u64 {
    word % SLOT
}
