//! Policies of every kind between running nodes, with packets of programs that are not ours.

mod common;

use std::fmt::Write;
use std::time::Duration;

use common::{Topology, eventually, may_run};

/// Pods `app: web` answer whoever is of the mesh, but the guests; anybody may ping them.
const CILIUM: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
    - fromEntities: [ENTITY]
      toPorts: [{ports: [{port: http, protocol: TCP}]}]
    - icmps: [{fields: [{type: EchoRequest}, {family: IPv6, type: EchoRequest}]}]
  ingressDeny:
    - fromEndpoints:
        - matchLabels: {app: guest}
          matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]
      toPorts: [{ports: [{port: \"0\", protocol: TCP}]}]
";

/// An administrator's word on the pods `app: web`.
const ADMIN: &str = "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guests}
spec:
  tier: Admin
  priority: 10
  subject: {pods: {podSelector: {matchLabels: {app: web}}}}
  ingress:
    - action: ACTION
      from:
        - pods:
            namespaceSelector: {}
            podSelector: {matchLabels: {app: guest}}
      protocols: [{tcp: {destinationPort: {range: {start: 8000, end: 8999}}}}]
";

#[test]
fn ciliums_and_an_administrators_policies_hold_between_pods() {
    if !may_run("ciliums_and_an_administrators_policies_hold_between_pods") {
        return;
    }
    let world = Topology::up(1, &[]);
    let _nodes = world.start_mesh();
    let pod = |node, name| world.pod(node, name);
    let web = pod("eu-1", "web");
    let _server = world.serve(web, 8080);
    let judge = ("eu-1", "ingressDenied");

    world.apply_everywhere(
        "eu",
        "cilium.yaml",
        &CILIUM.replace("ENTITY", "cluster-mesh"),
    );
    for node in ["eu-1", "us-1"] {
        world.decides(pod(node, "client"), web, true, judge);
        world.decides(pod(node, "guest"), web, false, judge);
        for address in web.addresses() {
            let guest = &pod(node, "guest").namespace;
            assert!(world.pings(guest, address, 3), "{node} pings {address}");
        }
    }
    // The own cluster is not the mesh.
    world.apply_everywhere("eu", "cilium.yaml", &CILIUM.replace("ENTITY", "cluster"));
    world.decides(pod("eu-1", "client"), web, true, judge);
    world.decides(pod("us-1", "client"), web, false, judge);

    // The administrator speaks first, of the own cluster's guests.
    world.apply_everywhere("eu", "admin.yaml", &ADMIN.replace("ACTION", "Accept"));
    world.decides(pod("eu-1", "guest"), web, true, judge);
    world.decides(pod("us-1", "guest"), web, false, judge);
    world.apply_everywhere("eu", "admin.yaml", &ADMIN.replace("ACTION", "Pass"));
    world.decides(pod("eu-1", "guest"), web, false, judge);

    // What we cannot enforce closes what it selects, whatever the others say, and names itself.
    let l7 = CILIUM.replace(
        "protocol: TCP}]}]\n    - icmps",
        "protocol: TCP}], rules: {http: [{}]}}]\n    - icmps",
    );
    assert_ne!(l7, CILIUM);
    world.apply_everywhere("eu", "cilium.yaml", &l7.replace("ENTITY", "cluster-mesh"));
    world.decides(pod("eu-1", "client"), web, false, ("eu-1", "policyRefused"));
    let status = world.status("eu-1").expect("the node answers");
    let said = status.to_string();
    assert!(
        said.contains("the field `rules`, which is not enforced"),
        "{said}"
    );
    world.withdraw_everywhere("eu", "cilium.yaml");
    world.withdraw_everywhere("eu", "admin.yaml");
    world.decides(pod("us-1", "guest"), web, true, judge);
}

/// How many policies come at once.
const POLICIES: usize = 500;

/// Policies of all kinds that govern nobody's pods.
fn many(port: usize) -> String {
    let mut text = String::new();
    for number in 0..POLICIES {
        let name = format!("p{number}");
        let rule = match number % 2 {
            0 => format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{podSelector: {{matchLabels: {{app: {name}}}}}, ingress: [{{from: [{{podSelector: {{}}}}], ports: [{{port: {port}}}]}}]}}\n"
            ),
            _ => format!(
                "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{endpointSelector: {{matchLabels: {{app: {name}}}}}, egress: [{{toCIDR: [10.{}.0.0/16], toPorts: [{{ports: [{{port: \"{port}\"}}]}}]}}]}}\n",
                number % 200
            ),
        };
        write!(text, "---\n{rule}").expect("text");
    }
    text
}

#[test]
fn a_flow_that_a_change_of_500_policies_does_not_touch_loses_nothing() {
    if !may_run("a_flow_that_a_change_of_500_policies_does_not_touch_loses_nothing") {
        return;
    }
    let world = Topology::up(1, &[]);
    let _nodes = world.start_mesh();
    let (from, to) = (world.pod("eu-1", "client"), world.pod("us-1", "guest"));
    let serve = ["iperf3", "-s", "-1", "-J"];
    let mut server = world.spawn(&to.namespace, "iperf3-server", &serve);
    let up = || {
        world
            .run(&to.namespace, &["ss", "-Hltn", "sport = :5201"])
            .out
            .contains("5201")
    };
    assert!(eventually(Duration::from_secs(5), up), "iperf3 listens");
    let send = [
        "iperf3", "-u", "-b", "20M", "-l", "1000", "-t", "12", "-c", &to.v4,
    ];
    let client = world.spawn(&from.namespace, "iperf3", &send);
    let begun = || {
        world
            .run(&to.namespace, &["ss", "-Hun"])
            .out
            .contains("5201")
    };
    assert!(eventually(Duration::from_secs(5), begun), "the flow runs");
    let dropped = |node: &str| {
        ["egressDenied", "ingressDenied", "policyRefused"].map(|reason| world.drops(node, reason))
    };
    let before = ["eu-1", "us-1"].map(dropped);
    for port in [80, 81, 82] {
        for cluster in ["eu", "us"] {
            let took = world.apply_everywhere(cluster, "many.yaml", &many(port));
            println!("{POLICIES} policies of {cluster} were in force after {took:?}");
        }
    }
    for cluster in ["eu", "us"] {
        world.withdraw_everywhere(cluster, "many.yaml");
    }
    server.wait(Duration::from_secs(30));
    drop(client);
    assert_eq!(["eu-1", "us-1"].map(dropped), before, "nothing is refused");
    let text = std::fs::read_to_string(world.dir().join("iperf3-server")).expect("a log");
    let report: serde_json::Value = serde_json::from_str(&text).expect("iperf3 -J");
    let streams = &report["end"]["streams"][0]["udp"];
    let (packets, lost) = (&streams["packets"], &streams["lost_packets"]);
    println!("{lost} of {packets} datagrams were lost");
    assert!(packets.as_u64().is_some_and(|n| n > 5_000), "{text}");
    assert_eq!(lost.as_u64(), Some(0), "{text}");
}
