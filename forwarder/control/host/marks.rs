//! The numbers by which the host's rules are ours: marks, priorities, tables and the protocol tag.
//!
//! **Marks.** Bit 12 says that a mark is Farlane's, the seven lowest bits say which. Others keep
//! theirs, because every write and every match goes through [`MARK_MASK`]: kube-proxy and kubelet
//! (0x4000, 0x8000), the portmap plug-in (0x2000), Cilium (0x0f00 and the upper half), Calico (the
//! upper half, `iptablesMarkMask`), the VPC plug-in of AWS (0x80), Tailscale (0xff0000).

/// The bits of a packet's or a connection's mark that are Farlane's.
pub const MARK_MASK: u32 = 0x107f;

/// `SO_MARK` of every socket on the wire side. Packets with it are routed as if Farlane did not
/// exist: other clusters' prefixes may hold the very nodes that the tunnel's datagrams go to.
pub const WIRE_MARK: u32 = 0x1000;

/// How many workers the marks can tell apart.
pub const WORKERS_MAX: usize = 126;

/// The mark of what belongs to a worker; `worker` counts from 0.
pub(super) const fn worker_mark(worker: usize) -> u32 {
    WIRE_MARK + 1 + worker as u32
}

/// Tags our rules and routes (`ip rule` and `ip route` print it as `proto 151`). Not in
/// iproute2's `rt_protos`, nor used by Cilium, Calico (80) or FRR (186 to 196).
pub(super) const PROTOCOL: u8 = 151;

// The range of priorities lies behind `local` (0, or 100 where Cilium moved it) and before all who
// route by pod address (AWS from 512, wg-quick and Tailscale from 5,200).
pub(super) const PRIORITY_FIRST: u32 = 180;
pub(super) const PRIORITY_WIRE: u32 = 180;
pub(super) const PRIORITY_WIRE_BACK: u32 = 181;
pub(super) const PRIORITY_MESH_OF_WORKER: u32 = 182;
pub(super) const PRIORITY_MESH: u32 = 183;
pub(super) const PRIORITY_WRITTEN: u32 = 184;
pub(super) const PRIORITY_WORKER: u32 = 186;
/// Where `goto` leads: behind it stand the host's own rules.
pub(super) const PRIORITY_END: u32 = 199;

/// The table with a worker's default route.
pub(super) const fn worker_table(worker: usize) -> u32 {
    5_187_100 + worker as u32 * 2
}

/// The table M with the other clusters' prefixes, towards a worker's device.
pub(super) const fn mesh_table(worker: usize) -> u32 {
    5_187_101 + worker as u32 * 2
}

/// Metrics of the route to the device, and of the blackhole that it hides.
pub(super) const METRIC_DEVICE: u32 = 10;
pub(super) const METRIC_BLACKHOLE: u32 = 4000;

const _: () = assert!(worker_mark(WORKERS_MAX - 1) & !MARK_MASK == 0);
const _: () = assert!(MARK_MASK & (0xf000 - 0x1000) == 0 && MARK_MASK & 0xffff_0f80 == 0);
