//! Processes: those that a Slurm daemon starts, and the command that a plugin is in.

/// Makes sure that nothing but standard input, output and error is kept open from the daemon that
/// started this program: its listening sockets would stay taken while the program hangs.
///
/// Call it first in `main`: what the program has opened itself is closed as well.
pub fn close_inherited_files() {
    // SAFETY: called before anything of this program's own is open.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if closed != 0 {
        // Before Linux 5.9.
        for fd in 3..1024 {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// Ends the command that the plugin is in, with `status`, before it asks slurmctld for anything.
///
/// No exit hook of any plugin is called, ours and others': Slurm is in the middle of calling them
/// all, one by one, and does not expect to be called meanwhile. What was printed is printed.
pub fn end(status: u8) -> ! {
    use std::io::Write;
    let _printed_as_far_as_it_can_be = std::io::stdout().flush();
    // SAFETY: null is every stream of the C library's.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    // SAFETY: ends the process, whatever it is in.
    unsafe { libc::_exit(status.into()) }
}
