//! Manifests that several tests apply.

/// Pods `app: web` take HTTP (port name `http`, 8080) from pods `app: client` of every cluster;
/// pods `app: guest` stay within their own cluster. All else is free.
pub(crate) const POLICIES: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-for-clients, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels: {app: client}
            matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]
      ports: [{port: http, protocol: TCP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: guests-stay, namespace: shop}
spec:
  podSelector: {matchLabels: {app: guest}}
  policyTypes: [Egress]
  egress:
    - to: [{podSelector: {}}]
";

/// Cluster IPs of `service(.., number, cluster)`, IPv4 first.
pub(crate) fn cluster_ips(number: u8, cluster: &str) -> [String; 2] {
    let id = if cluster == "eu" { 1 } else { 2 };
    [
        format!("10.10{id}.0.{number}"),
        format!("fd10:10{id}::{number}"),
    ]
}

/// A global Service over the pods `app: web`: port 80 to their port named `http`.
pub(crate) fn service(name: &str, number: u8, cluster: &str, affinity: &str) -> String {
    let [v4, v6] = cluster_ips(number, cluster);
    format!(
        "\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: shop
  annotations: {{service.cilium.io/global: \"true\", service.cilium.io/affinity: {affinity}}}
spec:
  selector: {{app: web}}
  clusterIP: {v4}
  clusterIPs: [{v4}, \"{v6}\"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports: [{{name: http, port: 80, targetPort: http, protocol: TCP}}]
"
    )
}
