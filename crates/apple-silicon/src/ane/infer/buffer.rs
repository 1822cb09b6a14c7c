//! Memory that is used again.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use super::kept::Kept;
use crate::ane::{
    errors::{ANEError, Result},
    resource_pool::{Pool, Reservation},
};

/// Input memory that the engine reads without a copy, from [`ANEManager::allocate_buffer`]. A run reads as many values
/// from its beginning as the model takes. Dropped, or used up by a run, it goes back to its manager, which gives it to
/// the next who asks; its bytes are the pool's until then, and for as long as nothing else needs them.
///
/// [`ANEManager::allocate_buffer`]: crate::ane::manager::ANEManager::allocate_buffer
pub struct Buffer {
    memory: Option<Memory>,
    pool: Pool,
    home: Arc<Buffers>,
}

struct Memory {
    /// Shared with an engine that reads them where they are, until it lets go.
    values: Arc<Vec<f32>>,
    /// Its share of the pool.
    reservation: Reservation,
}

impl Buffer {
    /// Bytes that it takes of the pool.
    pub fn bytes(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.reservation.bytes())
    }

    /// The memory itself, for engines that keep hold of it; `None` of a buffer that was used up.
    pub(super) fn shared(&self) -> Option<&Arc<Vec<f32>>> {
        self.memory.as_ref().map(|memory| &memory.values)
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.memory.as_ref().map_or(&[], |memory| &memory.values)
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // Copied where an engine still holds them: nobody writes to what it reads.
        self.memory.as_mut().map_or(&mut [], |memory| Arc::make_mut(&mut memory.values).as_mut_slice())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.home.keep(memory);
            self.home.make_room(&self.pool);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What a run gave, in memory that goes back to its manager when it is dropped.
pub struct OutputBuffer {
    values: Vec<f32>,
    home: Arc<Buffers>,
}

impl OutputBuffer {
    /// An empty one to write to.
    pub(crate) fn new(home: &Arc<Buffers>) -> OutputBuffer {
        OutputBuffer { values: home.lock().outputs.take(), home: home.clone() }
    }

    /// Values that were made for it.
    pub(crate) fn of(values: Vec<f32>, home: &Arc<Buffers>) -> OutputBuffer {
        OutputBuffer { values, home: home.clone() }
    }

    pub(crate) fn values_mut(&mut self) -> &mut Vec<f32> {
        &mut self.values
    }

    /// The values, kept. Their memory does not come back.
    pub fn into_vec(mut self) -> Vec<f32> {
        std::mem::take(&mut self.values)
    }
}

impl Deref for OutputBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl Drop for OutputBuffer {
    fn drop(&mut self) {
        let spare = self.home.lock().outputs.keep(std::mem::take(&mut self.values));
        drop(spare);
    }
}

impl fmt::Debug for OutputBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
}

/// A manager's buffers that nobody uses now.
#[derive(Default)]
pub(crate) struct Buffers {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    inputs: Vec<Memory>,
    outputs: Kept,
    /// Buffers that callers or runs hold.
    used: usize,
    used_bytes: usize,
}

/// How many buffers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferUse {
    /// Buffers that callers or runs hold.
    pub used: usize,
    /// Their bytes.
    pub used_bytes: usize,
    /// Buffers that wait to be used again.
    pub idle: usize,
    /// Their bytes.
    pub idle_bytes: usize,
}

impl Buffers {
    /// A buffer of so many bytes, full of zeros or of what it had before.
    ///
    /// # Errors
    /// [`ANEError::ResourceLimit`] where the pool has not so much memory free, and
    /// [`ANEError::MemoryAllocationFailed`] where the system has not.
    pub(crate) fn allocate(self: &Arc<Buffers>, bytes: usize, pool: &Pool) -> Result<Buffer> {
        let found = {
            let mut idle = self.lock();
            let place = idle.inputs.iter().position(|memory| memory.reservation.bytes() == bytes);
            place.map(|place| idle.inputs.swap_remove(place))
        };
        let memory = match found {
            Some(memory) => memory,
            None => Memory::new(bytes, self, pool)?,
        };
        let mut idle = self.lock();
        idle.used += 1;
        idle.used_bytes += bytes;
        drop(idle);
        Ok(Buffer { memory: Some(memory), pool: pool.clone(), home: self.clone() })
    }

    fn keep(&self, memory: Memory) {
        let mut idle = self.lock();
        idle.used -= 1;
        idle.used_bytes -= memory.reservation.bytes();
        idle.inputs.push(memory);
    }

    /// Gives idle memory back where others wait for memory. Called when either begins, so that neither is missed.
    pub(crate) fn make_room(&self, pool: &Pool) {
        if pool.is_short_of_memory() {
            self.trim();
        }
    }

    /// Gives the memory of idle buffers back, so that something else can have it. Whether there was any.
    pub(crate) fn trim(&self) -> bool {
        let inputs = std::mem::take(&mut self.lock().inputs);
        !inputs.is_empty()
    }

    pub(crate) fn statistics(&self) -> BufferUse {
        let idle = self.lock();
        BufferUse {
            used: idle.used,
            used_bytes: idle.used_bytes,
            idle: idle.inputs.len(),
            idle_bytes: idle.inputs.iter().map(|memory| memory.reservation.bytes()).sum(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn new(bytes: usize, buffers: &Buffers, pool: &Pool) -> Result<Memory> {
        let reservation = match pool.try_reserve_bytes(bytes) {
            Err(_) if buffers.trim() => pool.try_reserve_bytes(bytes),
            first => first,
        }?;
        let len = bytes / size_of::<f32>();
        let mut values = Vec::new();
        let failed = |_| ANEError::MemoryAllocationFailed(format!("there is no memory for a buffer of {bytes} bytes"));
        values.try_reserve_exact(len).map_err(failed)?;
        values.resize(len, 0.0);
        Ok(Memory { values: Arc::new(values), reservation })
    }
}
