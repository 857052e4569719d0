//! The objects of the demonstration.

use super::services::Service;

/// web is for clients of every cluster, guests stay within their own; all else is free.
pub(super) const POLICIES: &str = "\
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

/// One global Service: its own cluster IPs in each cluster, the backends of both.
pub(super) fn service(service: &Service, cluster: &str) -> String {
    let Service { name, affinity, .. } = service;
    let [v4, v6] = service.addresses(cluster);
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
