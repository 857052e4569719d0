//! The two clocks, read together once per breath, and the system's randomness.

use std::io;

use packet::{Now, Time};

/// Reads CLOCK_MONOTONIC and CLOCK_REALTIME; both come from the vDSO, without a system call.
pub fn now() -> Now {
    Now {
        time: Time::from_nanos(read(libc::CLOCK_MONOTONIC)),
        unix_ns: read(libc::CLOCK_REALTIME),
    }
}

/// Nanoseconds of one clock; zero before its origin.
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec that outlives the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "every Linux has both clocks (clock_gettime(2))");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// 32 bytes from the kernel's generator, for keys and seeds. Waits only if the generator is not
/// ready yet, which is early at boot.
///
/// # Errors
/// What the kernel says; ENOSYS where a seccomp filter hides getrandom(2).
pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: pointer and length are those of `rest`, which outlives the call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_go_back_and_the_wall_clock_is_past_2020() {
        let (first, second) = (now(), now());
        assert!(second.time >= first.time);
        assert!(first.unix_ns > 1_577_836_800_000_000_000);
    }

    #[test]
    fn randomness_differs_each_time() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
