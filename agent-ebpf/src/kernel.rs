//! Reading the kernel's memory: offsets that the loader took from BTF, and reads that cannot fault.

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user};
use core::mem::MaybeUninit;
use custody_abi::TaskKey;

macro_rules! declare {
    ($($name:ident = $owner:literal, [$($path:literal),*];)*) => {
        /// Offsets of the running kernel; frozen before loading, so that the verifier sees constants.
        pub(crate) mod offset {
            $(
                #[doc = concat!("Offset of the member in `struct ", $owner, "`.")]
                #[inline(always)]
                #[allow(non_snake_case, dead_code, reason = "one accessor per line of the shared list")]
                pub(crate) fn $name() -> usize {
                    #[unsafe(no_mangle)]
                    static $name: u32 = 0;
                    // SAFETY: a static of ours; volatile because the loader sets it after compilation.
                    unsafe { core::ptr::read_volatile(&raw const $name) as usize }
                }
            )*
        }
    };
}
custody_abi::kernel_offsets!(declare);

/// Values that the loader sets beside the offsets.
macro_rules! setting {
    ($(#[$doc:meta])* $name:ident: $type:ty = $default:expr, $reader:ident) => {
        #[unsafe(no_mangle)]
        static $name: $type = $default;
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $reader() -> $type {
            // SAFETY: a static of ours; volatile because the loader sets it after compilation.
            unsafe { core::ptr::read_volatile(&raw const $name) }
        }
    };
}
pub(crate) use setting;

setting!(/// `ITER_UBUF` of `enum iter_type`.
    ITER_UBUF: u32 = 0, iter_ubuf);
setting!(/// `ITER_IOVEC` of `enum iter_type`.
    ITER_IOVEC: u32 = 1, iter_iovec);
setting!(/// Index of the memory controller in `css_set.subsys`, `u32::MAX` without.
    MEMORY_SUBSYSTEM: u32 = u32::MAX, memory_subsystem);

/// Reads a `T` at a kernel address; a bad address gives an error, never a fault.
#[inline(always)]
pub(crate) fn read<T: Copy>(address: u64) -> Result<T, ()> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination is a T of ours, wholly written on success.
    unsafe {
        match bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _) {
            0 => Ok(value.assume_init()),
            _ => Err(()),
        }
    }
}

/// The same straight to where the bytes belong: a copy less on the stack, which is scarce. Zeros on error.
#[inline(always)]
pub(crate) fn read_to<const N: usize>(address: u64, to: &mut [u8; N]) {
    // SAFETY: the destination is ours, N bytes long.
    let _ = unsafe { bpf_probe_read_kernel(to.as_mut_ptr().cast(), N as u32, address as *const _) };
}

/// Reads a `T` at an address of the current process; not resident is an error.
#[inline(always)]
pub(crate) fn read_user<T: Copy>(address: u64) -> Result<T, ()> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination is a T of ours, wholly written on success.
    unsafe {
        match bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _) {
            0 => Ok(value.assume_init()),
            _ => Err(()),
        }
    }
}

/// The current task, typed for the verifier: direct loads at constant offsets are allowed and cannot fault.
#[inline(always)]
pub(crate) fn current() -> *const u8 {
    // SAFETY: takes nothing, never fails.
    unsafe { bpf_get_current_task_btf() as *const u8 }
}

/// A direct load through a typed pointer that came from [`current`].
#[inline(always)]
pub(crate) fn load<T: Copy>(base: *const u8, offset: usize) -> T {
    // SAFETY: the verifier admits this only for members of the pointer's type, and the kernel's exception
    // table turns a fault into zero.
    unsafe { core::ptr::read_volatile(base.add(offset).cast()) }
}

/// Who runs now.
#[inline(always)]
pub(crate) fn current_key() -> TaskKey {
    let task = current();
    let leader: *const u8 = load(task, offset::TASK_LEADER());
    TaskKey {
        start_ns: load(leader, offset::TASK_START()),
        pid: load(task, offset::TASK_TGID()),
        tid: load(task, offset::TASK_PID()),
    }
}

/// Who a task is that is not the current one.
#[inline(always)]
pub(crate) fn key_of(task: u64) -> Result<TaskKey, ()> {
    let leader: u64 = read(task + offset::TASK_LEADER() as u64)?;
    Ok(TaskKey {
        start_ns: read(leader + offset::TASK_START() as u64)?,
        pid: read(task + offset::TASK_TGID() as u64)?,
        tid: read(task + offset::TASK_PID() as u64)?,
    })
}
