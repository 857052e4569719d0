//! Which service a packet is addressed to.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use packet::Address;

use crate::Service;

/// Where a service's port can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// A cluster IP of the service.
    pub address: Address,
    /// The service's port, host order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// All services by frontend. A sorted list: made once, then only searched, once per new flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    services: Vec<(Frontend, Arc<Service>)>,
}

impl ServiceTable {
    /// The service at a frontend.
    pub fn find(&self, frontend: &Frontend) -> Option<&Arc<Service>> {
        let found = self.services.binary_search_by_key(frontend, |(f, _)| *f);
        self.services.get(found.ok()?).map(|(_, service)| service)
    }

    /// Whether any service has this address: what comes to another port of it is for nobody.
    pub fn is_frontend(&self, address: Address) -> bool {
        let first = self.services.partition_point(|(f, _)| f.address < address);
        self.services
            .get(first)
            .is_some_and(|(f, _)| f.address == address)
    }

    /// All frontends in order, with their services.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Frontend, &Arc<Service>)> {
        self.services
            .iter()
            .map(|(frontend, service)| (frontend, service))
    }
}

impl FromIterator<(Frontend, Arc<Service>)> for ServiceTable {
    /// Of two services at one frontend the later one is kept, as a map does.
    fn from_iter<I: IntoIterator<Item = (Frontend, Arc<Service>)>>(services: I) -> ServiceTable {
        let services: BTreeMap<Frontend, Arc<Service>> = services.into_iter().collect();
        ServiceTable {
            services: services.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;
    use crate::Affinity;

    fn service(name: &str) -> Arc<Service> {
        Arc::new(Service::new(
            name.to_string(),
            String::new(),
            Affinity::None,
            false,
            Vec::new(),
            3,
        ))
    }

    fn frontend(last: u8, port: u16, protocol: u8) -> Frontend {
        Frontend {
            address: Address::from_v4([10, 96, 0, last]),
            port,
            protocol,
        }
    }

    #[test]
    fn services_that_share_an_address_are_told_apart_by_port_and_protocol() {
        let table: ServiceTable = [
            (frontend(2, 53, 17), service("kube-system/dns")),
            (frontend(1, 80, 6), service("shop/web")),
            (frontend(1, 443, 6), service("shop/secure")),
            (frontend(1, 80, 17), service("shop/quic")),
        ]
        .into_iter()
        .collect();
        let name = |f: &Frontend| table.find(f).map(|s| s.name.as_str());
        assert_eq!(name(&frontend(1, 80, 6)), Some("shop/web"));
        assert_eq!(name(&frontend(1, 443, 6)), Some("shop/secure"));
        assert_eq!(name(&frontend(1, 80, 17)), Some("shop/quic"));
        assert_eq!(name(&frontend(2, 53, 17)), Some("kube-system/dns"));
        assert_eq!(name(&frontend(2, 53, 6)), None);
        assert_eq!(table.iter().len(), 4);
        for (last, is) in [(0, false), (1, true), (2, true), (3, false)] {
            assert_eq!(table.is_frontend(frontend(last, 0, 0).address), is);
        }
    }

    #[test]
    fn the_later_of_two_services_at_one_frontend_is_kept() {
        let table: ServiceTable = [
            (frontend(1, 80, 6), service("a")),
            (frontend(1, 80, 6), service("b")),
        ]
        .into_iter()
        .collect();
        assert_eq!(table.find(&frontend(1, 80, 6)).unwrap().name, "b");
    }
}
