//! Manifests as kubectl prints them.

use balance::Affinity;
use mesh::{Object, Peer, PortRange, Target, parse};

use crate::address;

/// As `kubectl get -o yaml` prints a pod, a service, its slice and a policy of a cluster.
const KUBECTL: &str = r#"apiVersion: v1
items:
- apiVersion: v1
  kind: Pod
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-0"}}
    creationTimestamp: "2026-11-20T09:12:44Z"
    generateName: web-
    labels:
      app: web
      apps.kubernetes.io/pod-index: "0"
      controller-revision-hash: web-6b7f675f5b
      statefulset.kubernetes.io/pod-name: web-0
    name: web-0
    namespace: shop
    ownerReferences:
    - apiVersion: apps/v1
      blockOwnerDeletion: true
      controller: true
      kind: StatefulSet
      name: web
      uid: 2b3ef2a1-1a1b-4b2f-9f7e-2f1ad52d7a6f
    resourceVersion: "48120"
    uid: 6c1fdf0e-71c4-4bd6-a5c8-0d8a5d1d9d3f
  spec:
    containers:
    - image: nginx:1.29
      imagePullPolicy: IfNotPresent
      name: nginx
      ports:
      - containerPort: 80
        name: http
        protocol: TCP
      resources: {}
      terminationMessagePath: /dev/termination-log
    dnsPolicy: ClusterFirst
    enableServiceLinks: true
    nodeName: eu-1
    preemptionPolicy: PreemptLowerPriority
    priority: 0
    restartPolicy: Always
    securityContext: {}
    serviceAccount: web
    serviceAccountName: web
    tolerations:
    - effect: NoExecute
      key: node.kubernetes.io/not-ready
      operator: Exists
      tolerationSeconds: 300
  status:
    conditions:
    - lastProbeTime: null
      lastTransitionTime: "2026-11-20T09:12:46Z"
      status: "True"
      type: Ready
    hostIP: 192.0.2.1
    hostIPs:
    - ip: 192.0.2.1
    phase: Running
    podIP: 10.1.0.7
    podIPs:
    - ip: 10.1.0.7
    - ip: fd10:1::7
    qosClass: BestEffort
    startTime: "2026-11-20T09:12:44Z"
- apiVersion: v1
  kind: Service
  metadata:
    annotations:
      service.cilium.io/affinity: remote
      service.cilium.io/global: "true"
    name: web
    namespace: shop
  spec:
    clusterIP: 10.96.12.5
    clusterIPs:
    - 10.96.12.5
    - fd10:96::5
    internalTrafficPolicy: Cluster
    ipFamilies:
    - IPv4
    - IPv6
    ipFamilyPolicy: PreferDualStack
    ports:
    - name: http
      port: 80
      protocol: TCP
      targetPort: http
    - name: dns
      port: 53
      protocol: UDP
      targetPort: 5353
    selector:
      app: web
    sessionAffinity: None
    type: ClusterIP
  status:
    loadBalancer: {}
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints:
  - addresses:
    - 10.1.0.7
    conditions:
      ready: false
      serving: true
      terminating: true
    nodeName: eu-1
    targetRef:
      kind: Pod
      name: web-0
      namespace: shop
    zone: eu-a
  kind: EndpointSlice
  metadata:
    generateName: web-
    labels:
      endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
      kubernetes.io/service-name: web
    name: web-x7gq2
    namespace: shop
  ports:
  - name: http
    port: 80
    protocol: TCP
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata:
    name: web
    namespace: shop
  spec:
    egress:
    - to:
      - ipBlock:
          cidr: 0.0.0.0/0
          except:
          - 10.0.0.0/8
    ingress:
    - from:
      - namespaceSelector:
          matchExpressions:
          - key: team
            operator: In
            values:
            - shop
            - desk
        podSelector:
          matchLabels:
            role: front
      ports:
      - endPort: 90
        port: 80
        protocol: TCP
      - port: dns
        protocol: UDP
    podSelector:
      matchLabels:
        app: web
    policyTypes:
    - Ingress
    - Egress
- apiVersion: v1
  kind: Namespace
  metadata:
    labels:
      kubernetes.io/metadata.name: shop
      team: shop
    name: shop
  spec:
    finalizers:
    - kubernetes
  status:
    phase: Active
kind: List
metadata:
  resourceVersion: ""
"#;

#[test]
fn what_kubectl_prints_is_read() {
    let parsed = parse("all.yaml", KUBECTL);
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.skipped, []);
    let lines: Vec<u32> = parsed.objects.iter().map(|o| o.at.line).collect();
    assert_eq!(lines, [3, 68, 101, 128, 164]);

    let [pod, service, slice, policy, namespace] = parsed.objects.as_slice() else {
        panic!("{:#?}", parsed.objects);
    };
    let Object::Pod(pod) = &pod.object else {
        panic!()
    };
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str()),
        ("shop", "web-0")
    );
    assert_eq!(pod.addresses, [address("10.1.0.7"), address("fd10:1::7")]);
    assert_eq!(
        (pod.node.as_str(), pod.service_account.as_str()),
        ("eu-1", "web")
    );
    assert!(pod.ready && !pod.terminating && !pod.host_network);
    assert_eq!(
        (pod.ports[0].name.as_str(), pod.ports[0].port),
        ("http", 80)
    );

    let Object::Service(service) = &service.object else {
        panic!()
    };
    assert_eq!(
        service.cluster_ips,
        [address("10.96.12.5"), address("fd10:96::5")]
    );
    assert!(service.global && service.shared);
    assert_eq!(service.affinity, Affinity::Remote);
    assert_eq!((service.client_stays, service.own_node_only), (None, false));
    assert_eq!(service.ports[0].target, Target::Name("http".into()));
    assert_eq!(service.ports[1].target, Target::Number(5353));
    assert_eq!((&service.skipped, &service.missing), (&None, &vec![]));

    let Object::EndpointSlice(slice) = &slice.object else {
        panic!()
    };
    assert_eq!(slice.service, "web");
    let endpoint = &slice.endpoints[0];
    assert!(!endpoint.ready && endpoint.serving && endpoint.terminating);
    assert_eq!(endpoint.node, "eu-1");

    let Object::Policy(policy) = &policy.object else {
        panic!()
    };
    let part = &policy.parts[0];
    assert!(part.ingress && part.egress && policy.refused.is_none());
    let [ingress, egress] = part.rules.as_slice() else {
        panic!("{:?}", part.rules)
    };
    let ports = ingress.ports.as_ref().unwrap();
    assert_eq!(ports[0].port, PortRange::Numbers(80, 90));
    assert_eq!(ports[1].port, PortRange::Name("dns".into()));
    let peers = egress.peers.as_ref().unwrap();
    assert!(matches!(&peers[0], Peer::Block { except, .. } if except.len() == 1));

    let Object::Namespace(namespace) = &namespace.object else {
        panic!()
    };
    assert_eq!(namespace.labels["team"], "shop");
}

#[test]
fn json_and_lists_of_one_kind_are_read() {
    let text = r#"{"apiVersion": "v1", "kind": "PodList", "items": [
        {"metadata": {"name": "a", "namespace": "x"}, "status": {"podIP": "10.1.0.1", "phase": "Running"}},
        {"metadata": {"name": "b"}, "status": {"podIPs": [{"ip": "10.1.0.2"}], "phase": "Succeeded"}}
    ]}"#;
    let parsed = parse("pods.json", text);
    assert_eq!(parsed.problems, []);
    let pods: Vec<(&str, usize)> = parsed
        .objects
        .iter()
        .map(|located| match &located.object {
            Object::Pod(pod) => (pod.namespace.as_str(), pod.addresses.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        pods,
        [("x", 1), ("default", 0)],
        "a finished pod has no address"
    );
}

#[test]
fn kinds_that_we_do_not_know_are_skipped_and_listed_other_groups_of_our_kinds_too() {
    let text = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: web}
---
apiVersion: crd.projectcalico.org/v1
kind: NetworkPolicy
metadata: {name: web}
spec: {selector: all()}
";
    let parsed = parse("x.yaml", text);
    assert_eq!(parsed.problems, []);
    assert!(parsed.objects.is_empty());
    let skipped: Vec<String> = parsed
        .skipped
        .iter()
        .map(|s| format!("{} {} {}", s.at.line, s.api_version, s.kind))
        .collect();
    assert_eq!(
        skipped,
        [
            "1 apps/v1 Deployment",
            "5 serving.knative.dev/v1 Service",
            "9 crd.projectcalico.org/v1 NetworkPolicy",
        ]
    );
}

#[test]
fn lanes_and_endpoints_come_from_annotations_or_from_the_address() {
    let text = format!(
        "\
apiVersion: v1
kind: Node
metadata:
  name: n
  annotations:
    network.cilium.io/wg-pub-key: {key}
    farlane.io/lanes: '[{{\"key\": \"{key}\", \"endpoint\": \"192.0.2.9:1000\"}}, {{\"key\": \"{other}\"}}]'
status: {{addresses: [{{type: InternalIP, address: 192.0.2.9}}, {{type: ExternalIP, address: 203.0.113.1}}]}}
",
        key = crate::KEY_2,
        other = crate::KEY_3
    );
    let parsed = parse("n.yaml", &text);
    assert_eq!(parsed.problems, []);
    let Object::Node(node) = &parsed.objects[0].object else {
        panic!()
    };
    assert_eq!(node.addresses, [address("192.0.2.9")]);
    assert_eq!(node.lanes.len(), 2);
    assert_eq!(
        node.lanes[0].endpoint,
        Some("192.0.2.9:1000".parse().unwrap())
    );
    assert_eq!((node.lanes[1].key, node.lanes[1].endpoint), ([3; 32], None));
}
