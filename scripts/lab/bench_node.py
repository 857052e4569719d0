"""scripts/bench-node, once Farlane is built: bench_node.py BINARY [options]; see scripts/bench-node."""
import argparse
import os
import statistics
import subprocess
import sys

from lab import SCRIPTS, Failed, Lab, cpu_seconds, end_on_signals, eventually, now, table, write_json

PODS = ["eu-1/client", "us-1/server"]
CLUSTER_IP = "10.101.0.52"
IPERF_PORT = 5201

POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server-for-clients, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels: {app: client}
            matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]
      ports: [{port: 5201, protocol: TCP}]
"""

SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: iperf
  namespace: shop
  annotations: {service.cilium.io/global: "true"}
spec:
  selector: {app: server}
  clusterIP: %s
  clusterIPs: [%s]
  ports: [{name: iperf, port: 5201, targetPort: 5201, protocol: TCP}]
"""


def through_node(lab, workers):
    """A: `farlane run` on both nodes; the client asks the service's address. Returns the address to ask."""
    for node in lab.node_names() if workers else []:
        with open(f"{lab.dir}/{node}/node.yaml", "a") as file:
            file.write(f"workers: {workers}\n")
    for cluster, cluster_ip in (("eu", CLUSTER_IP), ("us", CLUSTER_IP.replace(".101.", ".102."))):
        lab.apply(cluster, "policy.yaml", POLICY)
        lab.apply(cluster, "service.yaml", SERVICE % (cluster_ip, cluster_ip))
    lab.exchange_keys()
    for node in lab.node_names():
        lab.start(node)
    return CLUSTER_IP, list(lab.nodes.values())


def through_plain(lab, command, label):
    """B: a plain WireGuard program on both nodes, driven by wg(8); the client asks the server pod itself."""
    keys, programs = {}, []
    for node in lab.node_names():
        private = subprocess.run(["wg", "genkey"], check=True, text=True, capture_output=True).stdout
        public = subprocess.run(["wg", "pubkey"], check=True, text=True, capture_output=True, input=private).stdout.strip()
        path = f"{lab.dir}/{node}/key"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(private)
        keys[node] = path, public
    for node, other, pods, endpoint in (("eu-1", "us-1", "10.2.0.0/16", "192.0.2.3"), ("us-1", "eu-1", "10.1.0.0/16", "192.0.2.1")):
        device, namespace = f"wg{os.getpid():x}{node[:2]}", lab.namespace(node)
        environment = {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
        programs.append(lab.spawn(namespace, *command(device), environment=environment))
        if not eventually(lambda: lab.run(namespace, "wg", "show", device)[0] == 0, 10):
            raise Failed(f"{label} does not make its device {device}")
        for step in (
            ["wg", "set", device, "listen-port", "51820", "private-key", keys[node][0], "peer", keys[other][1],
             "allowed-ips", pods, "endpoint", f"{endpoint}:51820"],
            ["ip", "link", "set", device, "mtu", "1420", "up"],
            ["ip", "route", "add", pods, "dev", device],
        ):
            code, _, error = lab.run(namespace, *step)
            if code:
                raise Failed(f"{' '.join(step[:3])}: {error.strip()}")
    return lab.pod("us-1/server").v4, programs


def measure(binary, prepare, seconds):
    """One fresh world, one iperf3 run."""
    with Lab(binary, PODS, prefix="fb") as lab:
        address, programs = prepare(lab)
        client, server = lab.pod("eu-1/client"), lab.pod("us-1/server")
        lab.spawn(server.namespace, "iperf3", "-s")
        # The first run also waits for the handshake and for the listener.
        if not eventually(lambda: lab.run(client.namespace, "iperf3", "-c", address, "-t", "1")[0] == 0, 15):
            logs = "".join(lab.log(node) for node in lab.nodes)
            raise Failed(f"no iperf3 run to {address} succeeds\n{logs}")
        before = sum(map(cpu_seconds, programs))
        end = lab.iperf(client, address, seconds, "-O", "1")
        cpu = sum(map(cpu_seconds, programs)) - before
        received = end["sum_received"]
        # The omitted first second costs CPU too, so it is taken in: its bytes are in proportion.
        gib = received["bytes"] / 2**30 * (seconds + 1) / seconds
        return {"gbitPerSecond": round(received["bits_per_second"] / 1e9, 3), "cpuSecondsPerGiB": round(cpu / gib, 3)}


def main():
    arguments = argparse.ArgumentParser(prog="scripts/bench-node")
    arguments.add_argument("binary")
    arguments.add_argument("--pairs", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--against", choices=["wireguard", "wireguard-go"], default="wireguard")
    arguments.add_argument("--workers", type=int)
    arguments.add_argument("--json", metavar="FILE")
    given = arguments.parse_args()
    end_on_signals()
    if given.against == "wireguard":
        command = lambda device: [given.binary, "wireguard", device, "--foreground"]
    else:
        program = subprocess.run([f"{SCRIPTS}/peer-wireguard-go"], check=True, text=True, capture_output=True).stdout.strip()
        command = lambda device: [program, "-f", device]
    plain = "farlane wireguard" if given.against == "wireguard" else "wireguard-go"
    runs = {"farlane run": [], plain: []}
    try:
        for pair in range(given.pairs):
            for name, prepare in (("farlane run", lambda lab: through_node(lab, given.workers)), (plain, lambda lab: through_plain(lab, command, plain))):
                run = measure(given.binary, prepare, given.seconds)
                runs[name].append(run)
                print(f"pair {pair + 1}: {name}: {run['gbitPerSecond']:.2f} Gbit/s, {run['cpuSecondsPerGiB']:.2f} s/GiB", flush=True)
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 1
    medians = {name: {key: statistics.median(run[key] for run in of) for key in of[0]} for name, of in runs.items()}
    ratio = {key: round(medians["farlane run"][key] / medians[plain][key], 3) for key in medians[plain]}
    # Each pair in itself too: what drifts between pairs cancels out.
    pairs = [round(a["gbitPerSecond"] / b["gbitPerSecond"], 3) for a, b in zip(*runs.values())]
    print()
    for line in table(
        ["median of %d" % given.pairs, "Gbit/s", "CPU s/GiB"],
        [[name, f"{of['gbitPerSecond']:.2f}", f"{of['cpuSecondsPerGiB']:.2f}"] for name, of in medians.items()]
        + [["ratio", f"{ratio['gbitPerSecond']:.2f}", f"{ratio['cpuSecondsPerGiB']:.2f}"]],
    ):
        print(line)
    if given.json:
        document = {"when": now(), "runs": runs, "medians": medians, "ratio": ratio, "ratioOfPairs": pairs}
        write_json(given.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
