//! Making and changing a TUN interface (Linux `include/uapi/linux/if_tun.h`, `drivers/net/tun.c`).
//! Reading and writing it is in `tun_io`.

use std::ffi::{c_int, c_uint, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use packet::{FRAME_MAX, SegmentationKind};
use socket2::{Domain, Socket, Type};

use crate::{Feature, TunError, vnet};

/// What a TUN is to be.
#[derive(Clone, Debug)]
pub struct TunSettings {
    /// Name of the interface, 1 to 15 bytes; `%d` in it lets the kernel choose a number.
    pub name: String,
    /// MTU in bytes; `None` leaves the kernel's 1,500.
    pub mtu: Option<u32>,
    /// Whether the interface is set up at once; else somebody does it later (`wg-quick`).
    pub up: bool,
    /// The most that is tried: each step is a switch for who must do without the next.
    pub offloads: TunOffloads,
}

/// What a TUN leaves undone, each step with all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunOffloads {
    /// Plain packets, and no header in front of them.
    None,
    /// Partial checksums.
    Checksum,
    /// Super-packets of TCP.
    Tcp,
    /// Super-packets of TCP with CWR.
    TcpEcn,
    /// Super-packets of UDP (Linux 6.2).
    #[default]
    Udp,
}

/// The steps down, and what TUNSETOFFLOAD is asked for in each (`include/uapi/linux/if_tun.h`).
/// The first step of making one.
const OPENING: &str = "opening /dev/net/tun";

const STEPS: [(TunOffloads, c_uint); 4] = {
    let checksum = libc::TUN_F_CSUM;
    let tcp = checksum | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let ecn = tcp | libc::TUN_F_TSO_ECN;
    [
        (TunOffloads::Udp, ecn | libc::TUN_F_USO4 | libc::TUN_F_USO6),
        (TunOffloads::TcpEcn, ecn),
        (TunOffloads::Tcp, tcp),
        (TunOffloads::Checksum, checksum),
    ]
};

/// A TUN interface of our own; it goes when this is dropped.
#[derive(Debug)]
pub struct Tun {
    pub(crate) file: File,
    name: String,
    wanted: TunOffloads,
    offloads: TunOffloads,
    refused: String,
    /// Where a segment is written that the device does not take as part of a super-packet.
    pub(crate) scratch: Box<[u8]>,
    /// Segments of the oldest queued packet that the device already has.
    pub(crate) segments_done: usize,
}

impl Tun {
    /// Makes the interface in the network namespace of this thread.
    ///
    /// # Errors
    /// [`TunError`], one sentence that says what to do.
    pub fn create(settings: &TunSettings) -> Result<Tun, TunError> {
        check_name(&settings.name)?;
        let mut tun = if settings.offloads == TunOffloads::None {
            Tun::open(settings, 0)
        } else {
            // A kernel without the header says EINVAL, as it does for a name that is no TUN's; the
            // second try then tells. One that somebody holds (EBUSY) is no such kernel: where it is let
            // go of between the two, the device would be without offloads for good.
            match Tun::open(settings, libc::IFF_VNET_HDR) {
                Err((_, error)) if error.raw_os_error() == Some(libc::EINVAL) => {
                    Tun::open(settings, 0)
                }
                other => other,
            }
        }
        .map_err(|(step, error)| refused(&settings.name, step, error))?;
        tun.choose_offloads()?;
        if let Some(mtu) = settings.mtu {
            tun.set_mtu(mtu)?;
        }
        if settings.up {
            tun.set_up()?;
        }
        Ok(tun)
    }

    /// Opens it; what was refused is told with its step.
    fn open(settings: &TunSettings, header: c_int) -> Result<Tun, (&'static str, io::Error)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(|error| (OPENING, error))?;
        let mut request = request(&settings.name);
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | header) as i16;
        interface_ioctl(file.as_raw_fd(), libc::TUNSETIFF as c_ulong, &mut request)
            .map_err(|error| ("TUNSETIFF", error))?;
        Ok(Tun {
            file,
            name: name_of(&request),
            wanted: settings.offloads,
            offloads: if header == 0 {
                TunOffloads::None
            } else {
                TunOffloads::Checksum
            },
            refused: String::new(),
            scratch: vec![0; FRAME_MAX].into_boxed_slice(),
            segments_done: 0,
        })
    }

    /// Tries the offloads from the highest step down; the first that the kernel takes is it.
    fn choose_offloads(&mut self) -> Result<(), TunError> {
        if self.offloads == TunOffloads::None {
            self.refused = match self.wanted {
                TunOffloads::None => "switched off".into(),
                _ => "the kernel refuses IFF_VNET_HDR".into(),
            };
            return Ok(());
        }
        let length = vnet::LENGTH as c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int (`__tun_chr_ioctl`), and `length` outlives the call.
        let result = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                libc::TUNSETVNETHDRSZ as libc::Ioctl,
                &raw const length,
            )
        };
        if result < 0 {
            return Err(self.failed("TUNSETVNETHDRSZ", io::Error::last_os_error()));
        }
        if self.wanted < TunOffloads::Udp {
            self.refused = "switched off".into();
        }
        for (step, flags) in STEPS {
            if step > self.wanted {
                continue;
            }
            // SAFETY: TUNSETOFFLOAD takes its argument by value (`set_offload`).
            let result = unsafe {
                libc::ioctl(
                    self.file.as_raw_fd(),
                    libc::TUNSETOFFLOAD as libc::Ioctl,
                    c_ulong::from(flags),
                )
            };
            if result == 0 {
                self.offloads = step;
                return Ok(());
            }
            self.refused = format!("the kernel refuses it ({})", io::Error::last_os_error());
        }
        // Even partial checksums are refused: the header stays, and says that nothing is undone.
        Ok(())
    }

    /// Sets the MTU, in bytes.
    ///
    /// # Errors
    /// [`TunError::BadMtu`] where the kernel does not take it.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), TunError> {
        let bad = |error| TunError::BadMtu {
            name: self.name.clone(),
            mtu,
            error,
        };
        let mut request = request(&self.name);
        request.ifr_ifru.ifru_mtu =
            c_int::try_from(mtu).map_err(|_| bad(io::ErrorKind::InvalidInput.into()))?;
        control(libc::SIOCSIFMTU, &mut request).map_err(bad)
    }

    /// The MTU, in bytes.
    ///
    /// # Errors
    /// [`TunError::Kernel`] where the interface is gone, renamed or in another namespace.
    pub fn mtu(&self) -> Result<u32, TunError> {
        let mut request = request(&self.name);
        control(libc::SIOCGIFMTU, &mut request)
            .map_err(|error| self.failed("SIOCGIFMTU", error))?;
        // SAFETY: SIOCGIFMTU has written this field of the union.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        Ok(u32::try_from(mtu).unwrap_or(0))
    }

    /// Sets the interface up.
    ///
    /// # Errors
    /// [`TunError::Kernel`] where the kernel refuses.
    pub fn set_up(&self) -> Result<(), TunError> {
        let failed = |error| self.failed("setting it up", error);
        let mut request = request(&self.name);
        control(libc::SIOCGIFFLAGS, &mut request).map_err(failed)?;
        // SAFETY: SIOCGIFFLAGS has written this field of the union.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as i16;
        control(libc::SIOCSIFFLAGS, &mut request).map_err(failed)
    }

    /// The name that the interface was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the device leaves undone, and may be given undone.
    pub fn offloads(&self) -> TunOffloads {
        self.offloads
    }

    /// Whether the ten bytes of `vnet` stand in front of each frame.
    pub(crate) fn has_header(&self) -> bool {
        self.offloads > TunOffloads::None
    }

    /// Whether the device takes a super-packet of this kind.
    pub(crate) fn takes(&self, kind: SegmentationKind) -> bool {
        self.offloads
            >= match kind {
                SegmentationKind::Tcp => TunOffloads::Tcp,
                SegmentationKind::TcpEcn => TunOffloads::TcpEcn,
                SegmentationKind::Udp => TunOffloads::Udp,
            }
    }

    /// Whether the device takes every packet as it is.
    pub(crate) fn takes_all(&self) -> bool {
        self.offloads == TunOffloads::Udp
    }

    /// What runs, and why not.
    pub(crate) fn features(&self) -> Vec<Feature> {
        [
            ("tun.checksum", TunOffloads::Checksum),
            ("tun.tcpSegmentation", TunOffloads::Tcp),
            ("tun.tcpEcnSegmentation", TunOffloads::TcpEcn),
            ("tun.udpSegmentation", TunOffloads::Udp),
        ]
        .map(|(name, step)| {
            let on = self.offloads >= step;
            Feature::new(name, on, if on { "" } else { &self.refused })
        })
        .into()
    }

    fn failed(&self, step: &'static str, error: io::Error) -> TunError {
        TunError::Kernel {
            name: self.name.clone(),
            step,
            error,
        }
    }
}

/// An ioctl on an interface by its name (netdevice(7)), which any socket takes.
pub(crate) fn control(code: c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)
        .or_else(|_| Socket::new(Domain::IPV6, Type::DGRAM, None))?;
    interface_ioctl(socket.as_raw_fd(), code, request)
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The kernel's rules (`dev_valid_name`, Linux `net/core/dev.c`), and ASCII only.
fn check_name(name: &str) -> Result<(), TunError> {
    let valid = (1..libc::IFNAMSIZ).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if valid {
        Ok(())
    } else {
        Err(TunError::BadName {
            name: name.to_owned(),
        })
    }
}

/// What a step that the kernel refuses means to whoever asked for the device.
fn refused(name: &str, step: &'static str, error: io::Error) -> TunError {
    let name = name.to_owned();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) if step == OPENING => TunError::NoTun,
        Some(libc::EPERM | libc::EACCES) => TunError::NoRights { name },
        Some(libc::EBUSY | libc::EINVAL | libc::EEXIST) => TunError::NameTaken { name },
        _ => TunError::Kernel { name, step, error },
    }
}

/// An `ifreq` that names the interface; what of `name` is too long is cut.
pub(crate) fn request(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is integers and a union of such, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(name.bytes().take(libc::IFNAMSIZ - 1))
    {
        *to = from as libc::c_char;
    }
    request
}

pub(crate) fn name_of(request: &libc::ifreq) -> String {
    request
        .ifr_name
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| char::from(*c as u8))
        .collect()
}

fn interface_ioctl(fd: RawFd, code: c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the codes that come here (TUNSETIFF, SIOC[GS]IFMTU, SIOC[GS]IFFLAGS) read and write
    // one `ifreq`, and `request` is one that outlives the call.
    if unsafe { libc::ioctl(fd, code as libc::Ioctl, request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_refuses_are_refused_with_a_sentence() {
        for name in ["", "a/b", "a b", "a:b", ".", "..", "sixteen-bytes-ab", "ü"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["farlane0", "wg0", "fifteen-bytes-a", "tun%d"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
