//! Shared memory of this extension: each piece is reserved, laid out, found again and locked in the same way.
//!
//! ```ignore
//! static COUNTS: Piece<Locked<Counts>> = Piece::new(c"sharding_counts");
//! COUNTS.reserve();                          // in _PG_init, while the postmaster loads its libraries
//! COUNTS.exclusive().statements += 1;        // in any process
//! ```
//!
//! A piece of atomics is read without its lock ([`Piece::get`]); one that is [`Locked`] only under it. What follows a
//! piece's header are [`Array`]s.
//!
//! The postmaster lays the pieces out before it starts its first child, and again after a crash. Children have the
//! addresses from it, where they are forked; where they are executed anew, they load the library and attach to what
//! is there.

use crate::pg::{guard, preload};
use pgrx::pg_sys;
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a piece begins with.
///
/// # Safety
/// Several processes may use it at once, and nothing in it refers to the memory of one.
pub unsafe trait Layout: Sized {
    /// The size of the whole piece.
    fn bytes() -> usize {
        size_of::<Self>()
    }

    /// Its beginning in a new server. The rest is zeroes.
    fn begin() -> Self;
}

/// Something of which an [`Array`] can be made.
///
/// # Safety
/// As [`Layout`]; and all zeroes are a valid value.
pub unsafe trait Element {}

/// Elements behind a header, at the same place in all processes.
#[derive(Debug)]
pub struct Array<T> {
    offset: usize,
    length: usize,
    elements: PhantomData<T>,
}

/// Finds places for arrays.
pub struct Space {
    /// The bytes that are taken.
    pub bytes: usize,
}

impl Space {
    /// Behind a header of this type.
    pub fn behind<T>() -> Space {
        Space { bytes: size_of::<T>() }
    }

    pub fn array<T: Element>(&mut self, length: usize) -> Array<T> {
        let offset = self.bytes.next_multiple_of(align_of::<T>());
        self.bytes = offset + length * size_of::<T>();
        Array { offset, length, elements: PhantomData }
    }
}

impl<T: Element> Array<T> {
    /// The elements behind this header.
    ///
    /// # Safety
    /// The header is that of the piece in shared memory in whose `bytes` the array is.
    pub unsafe fn of<H: Layout>(&self, header: &'static H) -> &'static [T] {
        // SAFETY: the piece is there for the life of the server, and was zeroes when it began.
        unsafe {
            let first = std::ptr::from_ref(header).cast::<u8>().add(self.offset).cast::<T>();
            std::slice::from_raw_parts(first, self.length)
        }
    }
}

/// A piece of shared memory with a lock of its own. Its name is the lock's, too.
pub struct Piece<T> {
    name: &'static CStr,
    memory: AtomicPtr<T>,
    lock: AtomicPtr<pg_sys::LWLock>,
}

// SAFETY: what it points to is made for that, see `Layout`.
unsafe impl<T: Layout> Sync for Piece<T> {}

impl<T: Layout> Piece<T> {
    pub const fn new(name: &'static CStr) -> Piece<T> {
        Piece { name, memory: AtomicPtr::new(std::ptr::null_mut()), lock: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Has the server set the piece up; while the postmaster loads its libraries.
    pub fn reserve(&'static self) {
        let mut pieces = PIECES.lock().unwrap_or_else(PoisonError::into_inner);
        if pieces.is_empty() {
            // SAFETY: the postmaster has one thread.
            unsafe {
                PREV_SHMEM_REQUEST = pg_sys::shmem_request_hook;
                pg_sys::shmem_request_hook = Some(request);
                PREV_SHMEM_STARTUP = pg_sys::shmem_startup_hook;
                pg_sys::shmem_startup_hook = Some(start);
            }
        }
        pieces.push(self);
    }

    /// The piece; `None` if the library was not loaded with the server.
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or set by `attach` for the life of the server.
        unsafe { self.memory.load(Ordering::Relaxed).as_ref() }
    }

    /// Takes the lock until what is returned is dropped; `None` where there is no piece.
    pub fn hold(&self, mode: pg_sys::LWLockMode::Type) -> Option<Held> {
        let lock = self.lock.load(Ordering::Relaxed);
        if lock.is_null() {
            return None;
        }
        // SAFETY: set by `attach` for the life of the server.
        unsafe { pg_sys::LWLockAcquire(lock, mode) };
        Some(Held(lock))
    }
}

/// A lock that this process holds.
pub struct Held(*mut pg_sys::LWLock);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: taken in `hold`. An ERROR on its way sets the count to 0, and all locks are released where it ends.
        unsafe {
            if pg_sys::InterruptHoldoffCount > 0 {
                pg_sys::LWLockRelease(self.0)
            }
        }
    }
}

/// What is used under the lock of its piece only.
pub struct Locked<T>(UnsafeCell<T>);

/// A value that a [`Locked`] piece can be.
///
/// # Safety
/// As [`Layout`], for one process at a time or for readers only.
pub unsafe trait Shareable: Default {}

// SAFETY: by what `Shareable` promises.
unsafe impl<T: Shareable> Layout for Locked<T> {
    fn begin() -> Locked<T> {
        Locked(UnsafeCell::new(T::default()))
    }
}

/// The value, which others may read meanwhile.
pub struct Reading<T: 'static> {
    value: &'static UnsafeCell<T>,
    _held: Held,
}

/// The value, which nobody else uses meanwhile.
pub struct Writing<T: 'static>(Reading<T>);

impl<T: Shareable> Piece<Locked<T>> {
    /// 55000 as an ERROR if the library was not loaded with the server.
    fn locked(&self, mode: pg_sys::LWLockMode::Type) -> Reading<T> {
        match (self.get(), self.hold(mode)) {
            (Some(Locked(value)), Some(held)) => Reading { value, _held: held },
            _ => guard::throw(preload::missing()),
        }
    }

    pub fn share(&self) -> Reading<T> {
        self.locked(pg_sys::LWLockMode::LW_SHARED)
    }

    pub fn exclusive(&self) -> Writing<T> {
        Writing(self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE))
    }
}

impl<T> Deref for Reading<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: nobody writes while this process holds the lock, except through `Writing`'s own borrow.
        unsafe { &*self.value.get() }
    }
}

impl<T> Deref for Writing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Writing<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}

/// A piece of any type, as the hooks see it.
trait Reserved: Sync {
    fn request(&self);
    /// Lays the piece out, or finds it.
    fn attach(&self);
}

impl<T: Layout> Reserved for Piece<T> {
    fn request(&self) {
        // SAFETY: called by the hook that is there for it; the name is static.
        unsafe {
            pg_sys::RequestAddinShmemSpace(T::bytes() as _);
            pg_sys::RequestNamedLWLockTranche(self.name.as_ptr(), 1);
        }
    }

    fn attach(&self) {
        let mut found = false;
        // SAFETY: called by the hook that is there for it. Postgres aligns the piece to a cache line. It is nobody
        // else's before the postmaster starts its first child, and `found` ever after.
        unsafe {
            let memory = pg_sys::ShmemInitStruct(self.name.as_ptr(), T::bytes() as _, &mut found);
            if !found {
                memory.cast::<u8>().write_bytes(0, T::bytes());
                memory.cast::<T>().write(T::begin());
            }
            let lock = pg_sys::GetNamedLWLockTranche(self.name.as_ptr());
            self.memory.store(memory.cast(), Ordering::Relaxed);
            self.lock.store(&raw mut (*lock).lock, Ordering::Relaxed);
        }
    }
}

/// Of this process; the hooks are installed with the first one.
static PIECES: Mutex<Vec<&'static dyn Reserved>> = Mutex::new(Vec::new());
static mut PREV_SHMEM_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREV_SHMEM_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// The lock is free while the hooks raise ERRORs.
fn pieces() -> Vec<&'static dyn Reserved> {
    PIECES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

unsafe extern "C-unwind" fn request() {
    guard::guarded(|| {
        // SAFETY: the previous hook is called as Postgres would.
        unsafe {
            if let Some(previous) = PREV_SHMEM_REQUEST {
                guard::boundary(|| previous());
            }
        }
        pieces().iter().for_each(|piece| piece.request());
        Ok(())
    })
}

unsafe extern "C-unwind" fn start() {
    guard::guarded(|| {
        // SAFETY: as above.
        unsafe {
            if let Some(previous) = PREV_SHMEM_STARTUP {
                guard::boundary(|| previous());
            }
        }
        pieces().iter().for_each(|piece| piece.attach());
        Ok(())
    })
}
