"""scripts/demo, once Farlane is built: demo.py BINARY [--json FILE]."""
import argparse
import concurrent.futures
import os
import signal
import subprocess
import sys
import time

from lab import Failed, Lab, end_on_signals, eventually, result_of, stop, table, url, write_json

CLUSTERS = ("eu", "us")
FAMILIES = ("IPv4", "IPv6")
PORT = 8080
CLUSTER_ID = {"eu": 1, "us": 2}
WORLD = {"IPv4": "198.51.100.254", "IPv6": "2001:db8:99::254"}
# WireGuard's ports on the underlay: the node's and one for each further lane.
TUNNEL_PORTS = "51871-51886"

# web is for clients of every cluster, guests stay within their own; all else is free.
POLICIES = """\
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
"""


def service(name, number, affinity, cluster):
    """One global Service: its own cluster IPs in each cluster, the backends of both."""
    v4, v6 = service_addresses(number, cluster)
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: shop
  annotations: {{service.cilium.io/global: "true", service.cilium.io/affinity: {affinity}}}
spec:
  selector: {{app: web}}
  clusterIP: {v4}
  clusterIPs: [{v4}, "{v6}"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports: [{{name: http, port: 80, targetPort: http, protocol: TCP}}]
"""


def service_addresses(number, cluster):
    identifier = CLUSTER_ID[cluster]
    return f"10.10{identifier}.0.{number}", f"fd10:10{identifier}::{number}"


# What each service is for: affinity, and the cluster that must serve a client of each.
NEAR, FAR = ("web", 80, "local"), ("web-far", 81, "remote")
SERVED_BY = {"web": {"eu": "eu", "us": "us"}, "web-far": {"eu": "us", "us": "eu"}}


def expected(source, target):
    """Whether policy lets `source` (a Pod) reach `target` (a Pod's HTTP or ping, or the world)."""
    if source.name == "guest" and (target == "world" or target.cluster != source.cluster):
        return False
    if target != "world" and target.name == "web":
        return source.name == "client"
    return True


class Demo:
    def __init__(self, lab):
        self.lab, self.unexpected = lab, []
        self.result = {}

    def judge(self, good, text):
        if not good:
            self.unexpected.append(text)
        return good

    # ---- who reaches whom ----

    def reaches(self, source, target, family):
        if target == "world" or target.name != "web":
            address = WORLD[family] if target == "world" else target.address(family)
            return self.lab.run(source.namespace, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address)[0] == 0
        code, out, _ = self.lab.run(source.namespace, "curl", "-s", "-m", "1.5", url(target.address(family), PORT))
        return code == 0 and out.strip() == target.label

    def reachability(self):
        targets = [*(pod for pod in self.lab.pods if pod.name != "guest"), "world"]
        questions = [(s, t, f) for s in self.lab.pods for t in targets if s is not t for f in FAMILIES]
        # Four at a time: each waits more than it works.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda question: self.reaches(*question), questions))
        entries = []
        for (source, target, family), reached in zip(questions, answers):
            label, allowed = getattr(target, "label", target), expected(source, target)
            self.judge(reached == allowed, f"{source.label} {'reaches' if reached else 'does not reach'} {label} over {family}")
            by = "curl" if label.endswith("/web") else "ping"
            entries.append({"from": source.label, "to": label, "family": family, "by": by, "allowed": allowed, "reached": reached})
        self.result["reachability"] = entries
        print("\nWho reaches whom (IPv4 IPv6; yes and no are as policy says, a ! is not)")
        by_pair = {}
        for entry in entries:
            mark = ("yes" if entry["reached"] else "no") + ("" if entry["reached"] == entry["allowed"] else "!")
            by_pair.setdefault((entry["from"], entry["to"]), []).append(mark)
        names = [getattr(target, "label", target) for target in targets]
        heads = ["from \\ to", *(f"{name} {'http' if name.endswith('/web') else 'ping'}" for name in names)]
        heads = [head.replace("-1/", " ") for head in heads]
        rows = [[pod.label, *(" ".join(by_pair.get((pod.label, name), ["-"])) for name in names)] for pod in self.lab.pods]
        print_table(heads, rows)

    # ---- services ----

    def backends(self):
        entries = []
        for cluster in CLUSTERS:
            client = self.lab.pod(f"{cluster}-1/client")
            for name, number, affinity in (NEAR, FAR):
                wanted = f"{SERVED_BY[name][cluster]}-1/web"
                for family, address in zip(FAMILIES, service_addresses(number, cluster)):
                    code, out, _ = self.lab.run(client.namespace, "curl", "-s", "--connect-timeout", "1", *[url(address, 80)] * 20)
                    served = {line: out.split().count(line) for line in sorted(set(out.split()))}
                    self.judge(code == 0 and served == {wanted: 20}, f"{client.label} at {name} over {family}: served by {served}, not by {wanted}")
                    entries.append({"from": client.label, "service": name, "affinity": affinity, "family": family, "address": address, "servedBy": served})
        self.result["services"] = entries
        print("\nThrough which backend (20 requests each)")
        print_table(
            ["from", "service", "affinity", "at", "served by"],
            [[e["from"], e["service"], e["affinity"], e["address"], ", ".join(f"{k} {v}" for k, v in e["servedBy"].items()) or "nobody"] for e in entries],
        )

    # ---- throughput ----

    def throughput(self):
        client, server = self.lab.pod("eu-1/client"), self.lab.pod("us-1/client")
        self.lab.spawn(server.namespace, "iperf3", "-s")
        if not eventually(lambda: ":5201" in self.lab.run(server.namespace, "ss", "-ltnH")[1], 5):
            raise Failed("the iperf3 server does not listen")
        entries = []
        for family in FAMILIES:
            for kind, options in (("TCP", []), ("TCP back", ["-R"]), ("UDP 300M", ["-u", "-b", "300M", "-l", "1300"])):
                end = self.lab.iperf(client, server.address(family), 4, *options)
                total = end.get("sum_received") or end["sum"]
                lost = end["sum"].get("lost_percent") if "-u" in options else None
                entry = {"from": client.label, "to": server.label, "family": family, "traffic": kind, "gbitPerSecond": round(total["bits_per_second"] / 1e9, 3)}
                if lost is not None:
                    entry["lostPercent"] = round(lost, 3)
                self.judge(entry["gbitPerSecond"] > 0.05, f"iperf3 {kind} over {family} moves next to nothing")
                entries.append(entry)
        self.result["throughput"] = entries
        print(f"\nThroughput from {client.label} to {server.label} (iperf3)")
        print_table(
            ["traffic", "family", "Gbit/s", "lost"],
            [[e["traffic"], e["family"], f"{e['gbitPerSecond']:.2f}", f"{e['lostPercent']:.2f} %" if "lostPercent" in e else ""] for e in entries],
        )

    # ---- fail-over ----

    def failover(self, name, title, address, seconds, away, back, home, abroad, limits):
        """Runs the impatient client, `away` and `back` meanwhile; each returns the moment of its change."""
        client = self.lab.pod("eu-1/client")
        program = self.lab.attempts(client, address, 80, seconds)
        time.sleep(1.5)
        gone = away()
        time.sleep(3)
        came = back()
        report = result_of(program, seconds + 30)
        begin = report["startedUnixMs"]
        attempts = report["attempts"]
        failed = [one for one in attempts if not one["answer"]]
        first = lambda who, after: next((one["startMs"] for one in attempts if one["answer"] == who and begin + one["startMs"] > after * 1000), None)
        moved, returned = first(abroad, gone), first(home, came)
        last_end = max((one["startMs"] for one in failed), default=None)
        entry = {
            "case": name, "attempts": len(attempts), "failed": len(failed),
            "failedSpanMs": round(last_end - failed[0]["startMs"], 1) if failed else 0,
            "failOverMs": round(moved + begin - gone * 1000, 1) if moved is not None else None,
            "returnMs": round(returned + begin - came * 1000, 1) if returned is not None else None,
        }
        self.judge(attempts and attempts[0]["answer"] == home, f"{title}: {home} does not serve at first")
        self.judge(moved is not None, f"{title}: {abroad} never served")
        self.judge(returned is not None, f"{title}: {home} did not serve again")
        self.judge(len(failed) <= limits["failed"], f"{title}: {len(failed)} attempts failed")
        self.judge(entry["failedSpanMs"] <= limits["spanMs"], f"{title}: attempts failed for {entry['failedSpanMs']} ms")
        self.result.setdefault("failOver", []).append(entry)
        return [title, entry["attempts"], entry["failed"], milliseconds(entry["failedSpanMs"]), milliseconds(entry["failOverMs"]), milliseconds(entry["returnMs"])]

    def failovers(self):
        rows = []
        pods = self.lab.read("eu", "pods.yaml")
        unready = "---".join(part.replace('status: "True"', 'status: "False"') if "{app: web," in part else part for part in pods.split("---"))
        rows.append(self.failover(
            "unready", "local backends unready", service_addresses(NEAR[1], "eu")[0], 8,
            lambda: self.lab.apply("eu", "pods.yaml", unready), lambda: self.lab.apply("eu", "pods.yaml", pods),
            "eu-1/web", "us-1/web", {"failed": 0, "spanMs": 0},
        ))
        node = self.lab.nodes["us-1"]

        def send(number):
            node.send_signal(number)
            return time.time()

        rows.append(self.failover(
            "stopped", "other cluster stopped", service_addresses(FAR[1], "eu")[0], 10,
            lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT),
            "us-1/web", "eu-1/web", {"failed": 60, "spanMs": 1000},
        ))
        print("\nFail-over (a new connection every 20 ms, time-out 500 ms)")
        print_table(["what happens", "attempts", "failed", "failing for", "moved after", "back after"], rows)

    # ---- the wire ----

    def watch_wire(self):
        """Counts what of the traffic on the underlay is not the tunnel's."""
        clear = (
            f"(udp or tcp or icmp or sctp or (icmp6 and (ip6[40] < 130 or ip6[40] > 137))) and not udp portrange {TUNNEL_PORTS}"
        )
        self.captures = {}
        for name, what in (("clear", clear), ("tunnel", f"udp portrange {TUNNEL_PORTS}")):
            path = f"{self.lab.dir}/{name}.pcap"
            self.captures[name] = path, self.lab.spawn(self.lab.namespace("eu-1"), "tcpdump", "-n", "-U", "-s", "96", "-i", "wire-us-1", "-w", path, what)
        if not eventually(lambda: all(os.path.exists(path) and os.path.getsize(path) >= 24 for path, _ in self.captures.values()), 10):
            raise Failed("tcpdump does not start")

    def count_wire(self):
        counts = {}
        time.sleep(0.5)
        for name, (path, program) in self.captures.items():
            stop(program)
            out = subprocess.run(["tcpdump", "-n", "-r", path], text=True, capture_output=True).stdout
            counts[name] = out.count("\n")
            if name == "clear" and out:
                print("in the clear on the underlay:\n" + "\n".join(out.splitlines()[:5]))
        self.judge(counts["clear"] == 0, f"{counts['clear']} packets on the underlay were not the tunnel's")
        self.judge(counts["tunnel"] > 0, "nothing went through the tunnel")
        self.result["underlay"] = {"tunnelPackets": counts["tunnel"], "clearPackets": counts["clear"]}
        print(f"\nOn the underlay meanwhile: {counts['tunnel']} packets of the tunnel, {counts['clear']} in the clear")

    # ---- all of it ----

    def run(self):
        for cluster in CLUSTERS:
            self.lab.apply(cluster, "policies.yaml", POLICIES)
            for name, number, affinity in (NEAR, FAR):
                self.lab.apply(cluster, f"service-{name}.yaml", service(name, number, affinity, cluster))
        self.lab.exchange_keys()
        for node in self.lab.node_names():
            self.lab.start(node)
        for pod in self.lab.pods:
            if pod.name == "web":
                self.lab.serve(pod, PORT)
        a, b = self.lab.pod("eu-1/client"), self.lab.pod("us-1/client")
        if not eventually(lambda: all(self.reaches(a, b, family) for family in FAMILIES), 10):
            logs = "\n".join(f"--- {node}\n{self.lab.log(node)}" for node in self.lab.node_names())
            raise Failed(f"the two clusters do not reach each other; the ends of the logs:\n{logs}")
        self.watch_wire()
        self.reachability()
        self.backends()
        self.count_wire()
        self.throughput()
        self.failovers()


def milliseconds(value):
    return "-" if value is None else f"{value:.0f} ms"


def print_table(head, rows):
    for line in table(head, rows):
        print(line)


def main():
    arguments = argparse.ArgumentParser(prog="scripts/demo")
    arguments.add_argument("binary")
    arguments.add_argument("--json", metavar="FILE", help="writes the same for programs")
    given = arguments.parse_args()
    end_on_signals()
    begin = time.time()
    pods = [f"{cluster}-1/{name}" for cluster in CLUSTERS for name in ("client", "web", "guest")]
    demo = None
    try:
        with Lab(given.binary, pods, prefix="fd") as lab:
            print("Two clusters, eu and us, a node and three pods each, in network namespaces of this machine.")
            demo = Demo(lab)
            demo.run()
        failure = None
    except Failed as problem:
        failure = str(problem)
    unexpected = (demo.unexpected if demo else []) + ([failure] if failure else [])
    document = {"ok": not unexpected, "unexpected": unexpected, "seconds": round(time.time() - begin, 1), **(demo.result if demo else {})}
    if given.json:
        write_json(given.json, document)
    print()
    if unexpected:
        print("Not as expected:")
        for text in unexpected:
            print(f"  {text}")
        return 1
    print(f"Everything is as the policies and services say ({document['seconds']:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
