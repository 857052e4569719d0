//! The affinity rule: which of a service's backends may take new flows.

use alloc::vec::Vec;

use packet::Address;

/// Whether a global service prefers its own cluster's backends (annotation
/// `service.cilium.io/affinity`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Affinity {
    /// All backends of all clusters, alike.
    #[default]
    None,
    /// The own cluster's backends, the others only while none of those can serve.
    Local,
    /// The other clusters' backends, the own only while none of those can serve.
    Remote,
}

impl Affinity {
    /// As the annotation says it.
    pub const fn name(self) -> &'static str {
        match self {
            Affinity::None => "none",
            Affinity::Local => "local",
            Affinity::Remote => "remote",
        }
    }
}

/// How far a backend is in its life. One that is not ready is not a backend at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Takes new flows.
    Active,
    /// Ends soon: takes new flows only where no active one exists; its flows stay.
    Terminating,
}

/// One place that serves a service's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    /// The pod's address.
    pub address: Address,
    /// The pod's port, host order.
    pub port: u16,
    /// Id of the cluster that the pod runs in.
    pub cluster: u8,
    /// Whether that is the own cluster.
    pub local: bool,
    /// How far it is in its life.
    pub state: State,
    /// Whether the node that it runs on answers.
    pub healthy: bool,
    /// Its share of new flows relative to the other backends' weights; 0 takes none.
    pub weight: u16,
}

impl Backend {
    fn takes_new_flows(&self, state: State) -> bool {
        self.healthy && self.state == state
    }
}

/// The backends that may take new flows, as ascending indices into `backends`. Empty: there is
/// nobody, and the flow is refused.
///
/// First the affinity chooses sides. `None` takes both. `Local` takes the local side, and the
/// remote one too if no local backend is active and healthy while some remote one is healthy
/// (active or terminating). `Remote` takes the remote side, and the local one too if no remote
/// backend is healthy while some local one is. Then, of the backends that are left, the active and
/// healthy; if there are none, the terminating and healthy.
///
/// Source: Cilium `pkg/clustermesh/selectbackends.go` (`SelectBackends`), where an unhealthy
/// backend does not count as active either: local pods whose nodes are all silent must not hold
/// the flows. Terminating ones last: Kubernetes KEP-1669.
pub fn select(affinity: Affinity, backends: &[Backend]) -> Vec<usize> {
    let (use_local, use_remote) = sides(affinity, backends);
    let taken = |state: State| -> Vec<usize> {
        backends
            .iter()
            .enumerate()
            .filter(|(_, b)| if b.local { use_local } else { use_remote })
            .filter(|(_, b)| b.takes_new_flows(state))
            .map(|(index, _)| index)
            .collect()
    };
    let active = taken(State::Active);
    if active.is_empty() {
        taken(State::Terminating)
    } else {
        active
    }
}

/// Whether the local and the remote side are used.
fn sides(affinity: Affinity, backends: &[Backend]) -> (bool, bool) {
    let healthy = |local: bool| backends.iter().any(|b| b.local == local && b.healthy);
    let local_active = backends
        .iter()
        .any(|b| b.local && b.takes_new_flows(State::Active));
    match affinity {
        Affinity::None => (true, true),
        Affinity::Local => (true, !local_active && healthy(false)),
        Affinity::Remote => (!healthy(false) && healthy(true), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The four kinds of backend that a side can have. Bit `i` of a side's number says whether it
    /// has one of the kind `KINDS[i]`.
    const KINDS: [(State, bool); 4] = [
        (State::Active, true),
        (State::Active, false),
        (State::Terminating, true),
        (State::Terminating, false),
    ];

    // Row: what the local side has; column: what the remote side has; both count in the bits above,
    // from 0 (nothing) to 15 (one of each kind).
    //   L, R, B  the active and healthy of the local side, the remote side, both
    //   l, r, b  the terminating and healthy of the same
    //   .        refused
    const NONE: [&str; 16] = [
        ".R.RrRrR.R.RrRrR",
        "LBLBLBLBLBLBLBLB",
        ".R.RrRrR.R.RrRrR",
        "LBLBLBLBLBLBLBLB",
        "lRlRbRbRlRlRbRbR",
        "LBLBLBLBLBLBLBLB",
        "lRlRbRbRlRlRbRbR",
        "LBLBLBLBLBLBLBLB",
        ".R.RrRrR.R.RrRrR",
        "LBLBLBLBLBLBLBLB",
        ".R.RrRrR.R.RrRrR",
        "LBLBLBLBLBLBLBLB",
        "lRlRbRbRlRlRbRbR",
        "LBLBLBLBLBLBLBLB",
        "lRlRbRbRlRlRbRbR",
        "LBLBLBLBLBLBLBLB",
    ];
    const LOCAL: [&str; 16] = [
        ".R.RrRrR.R.RrRrR",
        "LLLLLLLLLLLLLLLL",
        ".R.RrRrR.R.RrRrR",
        "LLLLLLLLLLLLLLLL",
        "lRlRbRbRlRlRbRbR",
        "LLLLLLLLLLLLLLLL",
        "lRlRbRbRlRlRbRbR",
        "LLLLLLLLLLLLLLLL",
        ".R.RrRrR.R.RrRrR",
        "LLLLLLLLLLLLLLLL",
        ".R.RrRrR.R.RrRrR",
        "LLLLLLLLLLLLLLLL",
        "lRlRbRbRlRlRbRbR",
        "LLLLLLLLLLLLLLLL",
        "lRlRbRbRlRlRbRbR",
        "LLLLLLLLLLLLLLLL",
    ];
    const REMOTE: [&str; 16] = [
        ".R.RrRrR.R.RrRrR",
        "LRLRrRrRLRLRrRrR",
        ".R.RrRrR.R.RrRrR",
        "LRLRrRrRLRLRrRrR",
        "lRlRrRrRlRlRrRrR",
        "LRLRrRrRLRLRrRrR",
        "lRlRrRrRlRlRrRrR",
        "LRLRrRrRLRLRrRrR",
        ".R.RrRrR.R.RrRrR",
        "LRLRrRrRLRLRrRrR",
        ".R.RrRrR.R.RrRrR",
        "LRLRrRrRLRLRrRrR",
        "lRlRrRrRlRlRrRrR",
        "LRLRrRrRLRLRrRrR",
        "lRlRrRrRlRlRrRrR",
        "LRLRrRrRLRLRrRrR",
    ];

    fn side(local: bool, number: usize) -> impl Iterator<Item = Backend> {
        KINDS
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| number & (1 << bit) != 0)
            .map(move |(bit, (state, healthy))| Backend {
                address: Address::from_v4([10, if local { 1 } else { 2 }, 0, bit as u8]),
                port: 80,
                cluster: if local { 1 } else { 2 },
                local,
                state,
                healthy,
                weight: 1,
            })
    }

    fn expected(code: u8, backends: &[Backend]) -> Vec<usize> {
        let state = match code {
            b'L' | b'R' | b'B' => State::Active,
            _ => State::Terminating,
        };
        let (local, remote) = match code.to_ascii_uppercase() {
            b'L' => (true, false),
            b'R' => (false, true),
            b'B' => (true, true),
            _ => (false, false),
        };
        (0..backends.len())
            .filter(|&i| {
                let b = &backends[i];
                b.healthy && b.state == state && if b.local { local } else { remote }
            })
            .collect()
    }

    #[test]
    fn every_combination_of_backends_gives_what_the_table_says() {
        let tables = [
            (Affinity::None, NONE),
            (Affinity::Local, LOCAL),
            (Affinity::Remote, REMOTE),
        ];
        for (affinity, table) in tables {
            for (local, row) in table.iter().enumerate() {
                for (remote, &code) in row.as_bytes().iter().enumerate() {
                    let backends: Vec<Backend> =
                        side(true, local).chain(side(false, remote)).collect();
                    let want = expected(code, &backends);
                    assert_eq!(want.is_empty(), code == b'.', "a wrong row in the test");
                    assert_eq!(
                        select(affinity, &backends),
                        want,
                        "{affinity:?}, local {local:04b}, remote {remote:04b}"
                    );
                }
            }
        }
    }

    #[test]
    fn silent_local_nodes_do_not_hold_the_flows_of_affinity_local() {
        let backends: Vec<Backend> = side(true, 0b0010).chain(side(false, 0b0001)).collect();
        assert_eq!(select(Affinity::Local, &backends), [1]);
    }
}
