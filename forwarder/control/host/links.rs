//! Devices and addresses: our TUNs are set up here, everybody else's are only looked at.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use futures_util::TryStreamExt as _;
use packet::Address;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};

use super::HostError;

/// A device without any IPv4 address passes no packet whose way back is another device, whatever
/// loose `rp_filter` says (`no_addr` in the kernel's fib_frontend.c). This one is made for hosts
/// that have no other (RFC 7600 §4.8, 192.0.0.8), and its scope keeps it from being anybody's
/// source.
const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// A device of the host.
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) kind: Option<InfoKind>,
    pub(super) loopback: bool,
    pub(super) mtu: u32,
    up: bool,
}

/// The device of that name, or none.
pub(super) async fn by_name(handle: &Handle, name: &str) -> Result<Option<Link>, HostError> {
    first(handle.link().get().match_name(name), name).await
}

/// The device of that index, or none.
pub(super) async fn by_index(handle: &Handle, index: u32) -> Result<Option<Link>, HostError> {
    first(
        handle.link().get().match_index(index),
        &format!("device {index}"),
    )
    .await
}

async fn first(request: rtnetlink::LinkGetRequest, what: &str) -> Result<Option<Link>, HostError> {
    let mut answers = std::pin::pin!(request.execute());
    match answers.try_next().await {
        Ok(message) => Ok(message.map(Link::read)),
        // ENODEV: it is not there.
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -19 => Ok(None),
        Err(error) => Err(HostError::netlink(format!("the device {what}"), &error)),
    }
}

/// Brings a TUN up as Farlane needs it and returns its index.
pub(super) async fn set_up_tun(
    handle: &Handle,
    name: &str,
    mtu: u32,
    v6: bool,
) -> Result<u32, HostError> {
    let Some(link) = by_name(handle, name).await? else {
        return Err(HostError::NoDevice(name.to_owned()));
    };
    // Loose: a pod's packets come back from us by another way than to the pod. accept_local: what
    // Farlane answers with the node's own address, and what the host masqueraded to it before us.
    for (key, value) in [
        ("rp_filter", "2"),
        ("accept_local", "1"),
        ("forwarding", "1"),
    ] {
        set(&format!("ipv4/conf/{name}/{key}"), value)?;
    }
    if v6 {
        // No link-local address, no router solicitations: nobody is on this link.
        let keys = [
            ("disable_ipv6", "0"),
            ("addr_gen_mode", "1"),
            ("accept_ra", "0"),
            ("forwarding", "1"),
        ];
        for (key, value) in keys {
            set(&format!("ipv6/conf/{name}/{key}"), value)?;
        }
    }
    if link.mtu != mtu || !link.up {
        let message = LinkUnspec::new_with_index(link.index).mtu(mtu).up().build();
        let changing = handle.link().change(message).execute().await;
        changing.map_err(|error| HostError::netlink(format!("the device {name}"), &error))?;
    }
    // Asked first: each addition rings the bell that makes us look again.
    let dummy = Address::from(IpAddr::V4(DUMMY));
    if !addresses(handle, Some(link.index)).await?.contains(&dummy) {
        let mut request = handle.address().add(link.index, IpAddr::V4(DUMMY), 32);
        request.message_mut().header.scope = AddressScope::Host;
        let adding = request.execute().await;
        adding.map_err(|error| HostError::netlink(format!("the address of {name}"), &error))?;
    }
    Ok(link.index)
}

/// Removes a TUN, and says whether there was one. Other kinds of devices are left alone.
pub(super) async fn remove_tun(handle: &Handle, name: &str) -> Result<bool, HostError> {
    match by_name(handle, name).await? {
        Some(link) if link.kind == Some(InfoKind::Tun) => {
            let deleting = handle.link().del(link.index).execute().await;
            deleting.map_err(|error| HostError::netlink(format!("the device {name}"), &error))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The addresses of the host, or of one device, that may be a source now (an IPv6 address may not,
/// until it is known to be the only one on its link).
pub(super) async fn addresses(
    handle: &Handle,
    device: Option<u32>,
) -> Result<Vec<Address>, HostError> {
    let all = addresses_by_device(handle).await?;
    let of_device = all
        .into_iter()
        .filter(|(of, _)| device.is_none_or(|device| device == *of));
    Ok(of_device.map(|(_, address)| address).collect())
}

/// The same addresses, each with the index of the device that has it.
pub(super) async fn addresses_by_device(handle: &Handle) -> Result<Vec<(u32, Address)>, HostError> {
    let all: Vec<_> = handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|error| HostError::netlink("the list of addresses", &error))?;
    let unsure = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    Ok(all
        .iter()
        .filter(|message| !message.header.flags.intersects(unsure))
        .filter_map(|message| {
            let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
                message.attributes.iter().find_map(wanted)
            };
            // On a point-to-point link `Address` is the other end.
            let local = find(|a| match a {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let address = local.or_else(|| {
                find(|a| match a {
                    AddressAttribute::Address(ip) => Some(*ip),
                    _ => None,
                })
            })?;
            Some((message.header.index, Address::from(address)))
        })
        .collect())
}

/// Whether the kernel speaks IPv6.
pub(super) fn has_v6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// The number in `/proc/sys/net/KEY`.
pub(super) fn sysctl(key: &str) -> Option<i64> {
    fs::read_to_string(format!("/proc/sys/net/{key}"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn set(key: &str, value: &str) -> Result<(), HostError> {
    if sysctl(key).is_some_and(|is| is.to_string() == value) {
        return Ok(());
    }
    fs::write(format!("/proc/sys/net/{key}"), value).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => HostError::Rights,
        _ => HostError::Sysctl {
            key: key.replace('/', "."),
            value: value.to_owned(),
            error,
        },
    })
}

impl Link {
    fn read(message: LinkMessage) -> Link {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            kind: None,
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}
