//! Output buffers that are used again: an encoded batch gives its own back when the publisher has staged it, or drops it.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use super::encode::Encoded;

/// Output buffers, used again.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// Buffers kept, and the largest one that is.
    const KEPT: usize = 4;
    const LARGEST: usize = 4 << 20;

    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::KEPT && buffer.capacity() <= Self::LARGEST {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

/// An encoded batch whose buffer goes back to its pool.
#[derive(Debug)]
pub struct Staged {
    pub(super) encoded: Encoded,
    pool: Buffers,
}

impl Staged {
    /// Ties an encoded batch to the pool of its buffer.
    pub fn new(encoded: Encoded, pool: Buffers) -> Self {
        Self { encoded, pool }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.pool.give_back(mem::take(&mut self.encoded.buf));
    }
}
