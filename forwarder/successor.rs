//! Devices that a process before this one may still hold: what a ring of io_uring held is freed by the
//! kernel only some 30 ms after the process was killed (Linux `io_uring/io_uring.c`, io_ring_exit_work).

use std::thread;
use std::time::{Duration, Instant};

use driver::{Tun, TunError, TunSettings, Udp, UdpError, UdpSettings};

/// So long is waited until whoever still holds a device is taken for one that stays.
const MOMENT: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(10);

/// [`Tun::create`], once the one before is gone.
///
/// # Errors
/// [`TunError`], as there.
pub(crate) fn create(settings: &TunSettings) -> Result<Tun, TunError> {
    let taken = |error: &TunError| matches!(error, TunError::NameTaken { .. });
    once_free(taken, || Tun::create(settings))
}

/// [`Udp::bind`], once the one before is gone.
///
/// # Errors
/// [`UdpError`], as there.
pub(crate) fn bind(lane: u16, settings: &UdpSettings) -> Result<Udp, UdpError> {
    let taken = |error: &UdpError| matches!(error, UdpError::InUse { .. });
    once_free(taken, || Udp::bind(lane, settings.clone()))
}

fn once_free<T, E>(
    taken: impl Fn(&E) -> bool,
    mut make: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let end = Instant::now() + MOMENT;
    loop {
        match make() {
            Err(error) if taken(&error) && Instant::now() < end => thread::sleep(STEP),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_port_that_is_free_in_a_moment_is_taken_then_and_one_that_stays_is_told() {
        let before = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = before.local_addr().expect("its address");
        let settings = UdpSettings::on(vec![address]);
        let refused = bind(0, &settings).expect_err("somebody stays there");
        assert!(matches!(refused, UdpError::InUse { .. }), "{refused}");
        let leaving = thread::spawn(move || {
            thread::sleep(MOMENT / 5);
            drop(before);
        });
        let udp = bind(0, &settings).expect("it is free");
        assert_eq!(udp.port(), address.port());
        leaving.join().expect("it left");
    }
}
