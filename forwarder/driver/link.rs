//! The link of a TUN, wherever it is by now: others move it to another network namespace, rename
//! it, and set its MTU, while its file stays where it is.

use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::Tun;
use crate::tun::{control, name_of, request};
use crate::tun_io::is_deleted;

/// A second handle on a TUN, that only asks about its link. The interface lives as long as either.
#[derive(Debug)]
pub struct Link {
    file: File,
}

/// What a link is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its name.
    pub name: String,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
}

/// The number of the interface of this name, in the network namespace of this thread.
///
/// # Errors
/// What the kernel says: `ENODEV` when there is none.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let mut request = request(name);
    control(libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: SIOCGIFINDEX has written this field of the union.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    u32::try_from(index).map_err(io::Error::other)
}

impl Tun {
    /// What tells about the link.
    ///
    /// # Errors
    /// What the kernel says, where the process may not open more files.
    pub fn link(&self) -> io::Result<Link> {
        let file = self.file.try_clone()?;
        Ok(Link { file })
    }
}

impl Link {
    /// Asks the kernel, in the network namespace where the link is: a thread goes there for a moment,
    /// since whatever stayed there would keep that namespace alive. `None`: the link is deleted.
    ///
    /// # Errors
    /// What the kernel says, where the process may not open more files, make a thread or enter the
    /// namespace.
    pub fn state(&self) -> io::Result<Option<LinkState>> {
        match self.ask_there() {
            Err(error) if is_deleted(&error) => Ok(None),
            other => other.map(Some),
        }
    }

    fn ask_there(&self) -> io::Result<LinkState> {
        let namespace = self.namespace()?;
        std::thread::scope(|scope| {
            let asking = std::thread::Builder::new().spawn_scoped(scope, || {
                // SAFETY: setns moves this thread alone, which ends with its question, to the
                // namespace behind a descriptor that outlives the call.
                if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
                    return Err(io::Error::last_os_error());
                }
                self.ask()
            })?;
            let answer = asking.join();
            answer.unwrap_or_else(|_| Err(io::Error::other("the thread that asks has panicked")))
        })
    }

    /// Asks in the network namespace of this thread.
    fn ask(&self) -> io::Result<LinkState> {
        // SAFETY: `ifreq` is integers and a union of such, for which zeros are valid.
        let mut request: libc::ifreq = unsafe { zeroed() };
        // SAFETY: TUNGETIFF writes one `ifreq` (`__tun_chr_ioctl`), and this one outlives the call.
        let result = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                libc::TUNGETIFF as libc::Ioctl,
                &raw mut request,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let name = name_of(&request);
        control(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU has written this field of the union.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        control(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has written this field of the union.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        Ok(LinkState {
            name,
            mtu: u32::try_from(mtu).unwrap_or(0),
            up: flags & libc::IFF_UP as i16 != 0,
        })
    }

    /// The network namespace of the link.
    fn namespace(&self) -> io::Result<OwnedFd> {
        // SAFETY: TUNGETDEVNETNS takes no argument (`__tun_chr_ioctl`, `open_related_ns`).
        let fd = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                libc::TUNGETDEVNETNS as libc::Ioctl,
                0,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
