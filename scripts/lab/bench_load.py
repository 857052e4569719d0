"""scripts/bench-load, once Farlane is built: bench_load.py BINARY [options]; see scripts/bench-load."""
import argparse
import math
import multiprocessing
import statistics
import subprocess
import sys
import time

from bench_node import PODS, POLICY
from flows import open_socket
from lab import Failed, Lab, end_on_signals, eventually, now, table, write_json

# Two-sided 95 % of Student's t by degrees of freedom; beyond the table the normal distribution's is near enough.
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093]
PORTS = range(10_000, 60_000)
PER_SECOND = 40_000

# That of the bench of one flow, with the ports of many.
SERVER = POLICY.replace("ports: [", "ports: [{port: %d, endPort: %d, protocol: UDP}, " % (PORTS.start, PORTS.stop))


def policies(count):
    """So many more; each twentieth governs the server, and allows what nobody sends."""
    documents = []
    for number in range(count):
        app = "server" if number % 20 == 0 else f"app-{number}"
        documents.append(f"""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: more-{number}, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: {app}}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: peer-{number % 97}}}}}}}], ports: [{{port: {number + 1}}}]}}]
""")
    return "---\n".join(documents)


def start(lab, text, flows):
    for node in lab.node_names():
        # All flows have one client, which may have only a part of a worker's table.
        with open(f"{lab.dir}/{node}/node.yaml", "a") as file:
            file.write(f"flows: {{max: {8 * max(flows, 1024)}}}\n")
    for cluster in ("eu", "us"):
        lab.apply(cluster, "policy.yaml", text)
    lab.exchange_keys()
    for node in lab.node_names():
        lab.start(node)
    client, server = lab.pod("eu-1/client"), lab.pod("us-1/server")
    # What nobody reads is not answered by errors, which would be the load.
    drop = """
        table inet quiet {
            chain input { type filter hook input priority 0; udp dport 10000-60000 drop; }
        }
    """
    done = subprocess.run(["ip", "netns", "exec", server.namespace, "nft", "-f", "-"], input=drop, text=True, capture_output=True)
    if done.returncode:
        raise Failed(f"nft: {done.stderr.strip()}")
    lab.spawn(server.namespace, "iperf3", "-s")
    if not eventually(lambda: lab.run(client.namespace, "iperf3", "-c", server.v4, "-t", "1")[0] == 0, 15):
        raise Failed("no iperf3 run succeeds\n" + "".join(lab.log(node) for node in lab.nodes))


def send(client, server, count):
    """A datagram of each flow, from as many ports as that takes."""
    due, sent = time.monotonic(), 0
    for port in range(20_000, 20_000 + math.ceil(count / len(PORTS))):
        sock = open_socket(client, "IPv4", port)
        for target in PORTS:
            if sent == count:
                return
            try:
                sock.sendto(b"flow", (server.v4, target))
            except BlockingIOError:
                pass
            sent += 1
            if sent % 100 == 0:
                due += 100 / PER_SECOND
                time.sleep(max(0, due - time.monotonic()))


def known(lab):
    """How many flows the node knows that knows fewest."""
    return min(sum(worker["flows"] for worker in lab.status(node)["workers"]) for node in lab.node_names())


def refresh(lab, count):
    """Keeps the flows alive: theirs is the time of UDP, two minutes."""
    for _ in range(5):
        # A socket stays in its namespace, and so does who makes it.
        sender = multiprocessing.get_context("fork").Process(target=send, args=(lab.pod("eu-1/client"), lab.pod("us-1/server"), count))
        sender.start()
        sender.join()
        if known(lab) >= count:
            return
    raise Failed(f"only {known(lab)} of {count} flows are known to both nodes")


def gbit_per_second(lab, seconds):
    end = lab.iperf(lab.pod("eu-1/client"), lab.pod("us-1/server").v4, seconds, "-O", "1")
    return end["sum_received"]["bits_per_second"] / 1e9


def interval(ratios):
    """Geometric mean and the bounds of its 95 % confidence interval."""
    logs = [math.log(ratio) for ratio in ratios]
    mean, freedom = statistics.mean(logs), len(logs) - 1
    student = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96
    half = student * statistics.stdev(logs) / math.sqrt(len(logs))
    return [math.exp(mean + by) for by in (0, -half, half)]


def main():
    arguments = argparse.ArgumentParser(prog="scripts/bench-load")
    arguments.add_argument("binary")
    arguments.add_argument("--pairs", type=int, default=15)
    arguments.add_argument("--seconds", type=int, default=3)
    arguments.add_argument("--policies", type=int, default=2_000)
    arguments.add_argument("--flows", type=int, default=100_000)
    arguments.add_argument("--json", metavar="FILE")
    given = arguments.parse_args()
    if given.pairs < 2:
        arguments.error("--pairs: an interval wants two at least")
    end_on_signals()
    light, loaded = [], []
    try:
        with Lab(given.binary, PODS, prefix="fa") as a, Lab(given.binary, PODS, prefix="fb") as b:
            start(a, SERVER, given.flows)
            start(b, SERVER + "---\n" + policies(given.policies - 1), given.flows)
            for pair in range(given.pairs):
                light.append(gbit_per_second(a, given.seconds))
                refresh(b, given.flows)
                loaded.append(gbit_per_second(b, given.seconds))
                print(f"pair {pair + 1}: {light[-1]:.2f} and {loaded[-1]:.2f} Gbit/s", flush=True)
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 1
    ratios = [b / a for a, b in zip(light, loaded)]
    mean, low, high = interval(ratios)
    print()
    for line in table(
        ["median of %d" % given.pairs, "Gbit/s"],
        [["one policy, one flow", f"{statistics.median(light):.2f}"],
         [f"{given.policies} policies, {given.flows} flows", f"{statistics.median(loaded):.2f}"]],
    ):
        print(line)
    print(f"ratio {mean:.3f}, with 95 % confidence from {low:.3f} to {high:.3f}")
    if given.json:
        document = {"when": now(), "light": light, "loaded": loaded, "ratios": ratios, "ratio": mean, "low": low, "high": high}
        write_json(given.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
