//! How long a packet the wire's links take: what the TUNs' MTU follows from.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use packet::Address;
use rtnetlink::Handle;
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags};

use super::{HostError, WIRE_MARK, links, pods};

/// Routes that are looked up at most: nodes hardly ever have so many links, and each asks the kernel.
const ROUTES_MAX: usize = 1_024;

/// The smallest MTU, in bytes, of the links that have an address of `listen` and of those that lead
/// to `endpoints`; `None` where there is neither. A route's own MTU does not count: the sockets do
/// not keep to it, and a path's size is found out in any case.
pub(super) async fn mtu(
    handle: &Handle,
    listen: &[SocketAddr],
    endpoints: impl IntoIterator<Item = IpAddr>,
) -> Result<Option<u32>, HostError> {
    let listen: Vec<Address> = listen
        .iter()
        .map(|socket| Address::from(socket.ip()))
        .collect();
    let mut devices = BTreeSet::new();
    for (device, address) in links::addresses_by_device(handle).await? {
        if listen.contains(&address) {
            devices.insert(device);
        }
    }
    let endpoints: BTreeSet<IpAddr> = endpoints.into_iter().take(ROUTES_MAX).collect();
    for endpoint in endpoints {
        let mark = Some(WIRE_MARK);
        let way = pods::lookup(handle, endpoint.into(), RouteFlags::empty(), mark).await?;
        let device = way.and_then(|route| {
            let oif = |attribute: &RouteAttribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            };
            route.attributes.iter().find_map(oif)
        });
        devices.extend(device);
    }
    let mut smallest = None;
    for device in devices {
        let Some(link) = links::by_index(handle, device).await? else {
            continue;
        };
        if !link.loopback {
            smallest = Some(smallest.map_or(link.mtu, |mtu: u32| mtu.min(link.mtu)));
        }
    }
    Ok(smallest)
}
