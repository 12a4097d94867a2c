//! The sidecar's allocator: mimalloc, told to give freed memory back soon.
//!
//! mimalloc keeps what was freed for a second, in case it is needed again, and looks at that clock only when a thread
//! allocates. A sidecar that carried a few large messages on one thread after another, or ten thousand connections that
//! have since closed, would stay at its peak. This crate exists so that all others can forbid unsafe code: the setting is a
//! call into C.

pub use mimalloc::MiMalloc;

/// For how long memory that was freed is kept, in milliseconds: what a busy thread needs again at once is not worth a page
/// fault each time; `docs/decisions/0005-allocator.md` has the counts.
const PURGE_DELAY_MS: std::ffi::c_long = 10;

/// `mi_option_purge_delay` of `mi_option_t`, the same in versions 2 and 3 of the library.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has freed memory given back soon. To be called once, before there are threads; the variable `MIMALLOC_PURGE_DELAY` goes
/// before it.
#[expect(unsafe_code, reason = "a call into C")]
pub fn give_back_soon() {
    // SAFETY: it writes one integer of the library's table of options; no other thread reads or writes options yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}
