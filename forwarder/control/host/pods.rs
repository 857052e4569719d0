//! Which interface is a pod's own: the one that the host's route to the pod's address leads to.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt as _;
use packet::Address;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteType};

use super::marks::WIRE_MARK;
use super::rules::route_address;
use super::ruleset::Place;
use super::{HostError, HostPlan, Intercept, links};

/// What was found out about the local pods.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) places: BTreeMap<Address, Place>,
    /// Why interception cannot hold what it promises, one sentence each.
    pub(super) refusals: Vec<HostError>,
    /// Pods that are not reached yet, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// The host's answer to "where is this address?"
enum Way {
    /// The address is the host's own.
    Here,
    /// Behind this interface, by a route for it alone or not.
    Link {
        index: u32,
        alone: bool,
    },
    /// By the default route or a gateway: somewhere else.
    Away,
    None,
}

struct Interface {
    name: String,
    kind: Option<InfoKind>,
    first: [Option<Address>; 2],
}

/// Finds each pod of the plan.
pub(super) async fn survey(handle: &Handle, plan: &HostPlan) -> Result<Survey, HostError> {
    let mut survey = Survey::default();
    let mut interfaces: HashMap<u32, Interface> = HashMap::new();
    for &(address, worker) in &plan.local_pods {
        let mut place = Place {
            worker: usize::from(worker),
            interface: None,
            alone: false,
        };
        match way(handle, address).await? {
            // A pod in the host's network: its traffic is the host's.
            Way::Here => continue,
            Way::None => survey.warnings.push(format!(
                "this host has no route to the pod {address}: what it sends is dropped until it has one"
            )),
            Way::Away => survey.warnings.push(format!(
                "this host reaches the pod {address} by a gateway or its default route, not by an interface of the pod: what it sends is dropped"
            )),
            Way::Link { index, alone } => {
                if let Some(interface) = interface(handle, &mut interfaces, index).await? {
                    judge(plan, interface, address, &mut survey);
                    place.interface = Some(interface.name.clone());
                    place.alone = alone || is_pair(interface.kind.as_ref());
                }
            }
        }
        survey.places.insert(address, place);
    }
    Ok(survey)
}

/// Pods behind one interface meet each other there, and never the host's routing.
fn judge(plan: &HostPlan, interface: &mut Interface, pod: Address, survey: &mut Survey) {
    let first = &mut interface.first[usize::from(pod.is_v4())];
    let shared = first.is_some();
    let other = *first.get_or_insert(pod);
    let is_bridge = interface.kind == Some(InfoKind::Bridge);
    if plan.intercept == Intercept::All && (shared || is_bridge) {
        survey.refusals.push(HostError::Shared {
            interface: interface.name.clone(),
            pods: [other, pod],
        });
    }
}

async fn interface<'a>(
    handle: &Handle,
    known: &'a mut HashMap<u32, Interface>,
    index: u32,
) -> Result<Option<&'a mut Interface>, HostError> {
    let place = match known.entry(index) {
        Entry::Occupied(place) => return Ok(Some(place.into_mut())),
        Entry::Vacant(place) => place,
    };
    let Some(link) = links::by_index(handle, index).await? else {
        return Ok(None);
    };
    if !speakable(&link.name) {
        return Err(HostError::Name(link.name));
    }
    Ok(Some(place.insert(Interface {
        name: link.name,
        kind: link.kind,
        first: [None; 2],
    })))
}

fn is_pair(kind: Option<&InfoKind>) -> bool {
    matches!(kind, Some(InfoKind::Veth | InfoKind::Netkit))
}

/// Whether nft reads a quoted name as that name and nothing else.
pub(super) fn speakable(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 16
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-@+=,~#%&!".contains(&b))
}

async fn way(handle: &Handle, address: Address) -> Result<Way, HostError> {
    let found = lookup(handle, address, RouteFlags::FibMatch, None).await?;
    Ok(found.map_or(Way::None, |route| read(&route)))
}

/// The interface by which a packet of the wire gets to that address without a gateway.
pub(super) async fn on_link(
    handle: &Handle,
    address: Address,
) -> Result<Option<String>, HostError> {
    let route = lookup(handle, address, RouteFlags::empty(), Some(WIRE_MARK)).await?;
    let Some(Way::Link { index, .. }) = route.as_ref().map(read) else {
        return Ok(None);
    };
    let by_gateway = route.is_some_and(|route| has_gateway(&route));
    let link = links::by_index(handle, index).await?;
    Ok(link.filter(|_| !by_gateway).map(|link| link.name))
}

pub(super) async fn lookup(
    handle: &Handle,
    address: Address,
    flags: RouteFlags,
    mark: Option<u32>,
) -> Result<Option<RouteMessage>, HostError> {
    let mut query = RouteMessage::default();
    let v4 = address.is_v4();
    query.header.address_family = if v4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    query.header.destination_prefix_length = if v4 { 32 } else { 128 };
    query.header.flags = flags;
    let destination = RouteAttribute::Destination(route_address(address));
    query.attributes.push(destination);
    query.attributes.extend(mark.map(RouteAttribute::Mark));
    let mut answers = std::pin::pin!(handle.route().get(query).execute());
    match answers.try_next().await {
        Err(rtnetlink::Error::NetlinkError(error)) if is_no_route(error.raw_code()) => Ok(None),
        other => {
            other.map_err(|error| HostError::netlink(format!("the route to {address}"), &error))
        }
    }
}

/// ENETUNREACH, EHOSTUNREACH, EINVAL (blackhole), EACCES (prohibit).
fn is_no_route(code: i32) -> bool {
    [-101, -113, -22, -13].contains(&code)
}

fn read(route: &RouteMessage) -> Way {
    match route.header.kind {
        RouteType::Local => return Way::Here,
        RouteType::Unicast => {}
        _ => return Way::None,
    }
    let full = if route.header.address_family == AddressFamily::Inet {
        32
    } else {
        128
    };
    let length = route.header.destination_prefix_length;
    let by_gateway = has_gateway(route);
    if length == 0 || (by_gateway && length < full) {
        return Way::Away;
    }
    let index = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
    index.map_or(Way::None, |index| Way::Link {
        index,
        alone: length == full && !by_gateway,
    })
}

fn has_gateway(route: &RouteMessage) -> bool {
    route.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nft_would_read_as_something_else_is_not_spoken() {
        for name in ["eth0", "pod-a", "cali12.7@x", "v_1"] {
            assert!(speakable(name), "{name}");
        }
        for name in ["", "v*", "a\"b", "a b", "a\\b", "sixteen-letters-"] {
            assert!(!speakable(name), "{name}");
        }
    }
}
