//! What others may see of this process's memory, which has private keys in it.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keeps the memory out of core dumps, and from debuggers and readers of `/proc/PID/mem` that are the same
/// user (`PR_SET_DUMPABLE` in prctl(2), ptrace(2)). Who has CAP_SYS_PTRACE can still read it.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn keep_memory_private() -> io::Result<()> {
    // Not being dumpable is enough for the kernel. The limit is what `/proc/PID/limits` shows to who looks.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
