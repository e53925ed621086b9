//! For programs that a Slurm daemon starts.

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
