"""scripts/bench-flood, once everything is built: bench_flood.py FARLANE FLOOD [options]; see scripts/bench-flood."""
import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import threading
import time

from bench_node import PODS, through_node
from lab import Failed, Lab, end_on_signals, eventually, now, result_of, table, write_json

VICTIM, VICTIM_ADDRESS, PORT, DISCARD_PORT = "us-1", "192.0.2.3", 51820, 9
KINDS = ["no flood", "discarded", "right MAC", "wrong MAC"]
# Only `farlane run` has several lanes.
ALL_LANES = "right MAC, all lanes"


def wg(lab, place, *arguments):
    code, out, error = lab.run(lab.namespace(place), "wg", *arguments)
    if code:
        raise Failed(f"wg {' '.join(arguments)}: {error.strip()}")
    return out.strip()


def key_pair():
    private = subprocess.run(["wg", "genkey"], check=True, text=True, capture_output=True).stdout
    public = subprocess.run(["wg", "pubkey"], check=True, text=True, capture_output=True, input=private).stdout
    return private, public.strip()


class Device:
    """One `farlane wireguard`, configured by wg(8)."""

    def __init__(self, lab, place, inside):
        self.lab, self.place = lab, place
        self.name = f"wf{os.getpid():x}{place[:2]}"
        private, self.public = key_pair()
        self.program = lab.spawn(lab.namespace(place), lab.binary, "wireguard", self.name, "--foreground")
        if not eventually(lambda: lab.run(lab.namespace(place), "wg", "show", self.name)[0] == 0, 10):
            raise Failed(f"farlane wireguard does not make {self.name}")
        path = f"{lab.dir}/{place}.key"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(private)
        wg(lab, place, "set", self.name, "listen-port", str(PORT), "private-key", path)
        self.ip("addr", "add", f"{inside}/24", "dev", self.name)
        self.ip("link", "set", self.name, "mtu", "1420", "up")

    def ip(self, *arguments):
        code, _, error = self.lab.run(self.lab.namespace(self.place), "ip", *arguments)
        if code:
            raise Failed(f"ip {' '.join(arguments)}: {error.strip()}")

    def peer(self, public, allowed, *more):
        wg(self.lab, self.place, "set", self.name, "peer", public, "allowed-ips", allowed, *more)

    def handshake(self, public):
        lines = wg(self.lab, self.place, "show", self.name, "latest-handshakes").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(public)), 0)


def join_outsider(lab, place, network, sources=None):
    """A namespace beside the victim, joined to it by a veth with NETWORK.1 and NETWORK.2."""
    namespace, victim = lab.namespace(place), lab.namespace(VICTIM)
    steps = f"""
        netns add {namespace}
        -n {namespace} link set lo up
        link add {place} netns {victim} type veth peer name wire netns {namespace}
        -n {victim} addr add {network}.1/24 dev {place}
        -n {victim} link set {place} up
        -n {namespace} addr add {network}.2/24 dev wire
        -n {namespace} link set wire up
        -n {namespace} route add default via {network}.1
    """ + (f"-n {victim} route add {sources} via {network}.2" if sources else "")
    for step in filter(None, map(str.strip, steps.splitlines())):
        done = subprocess.run(["ip", *step.split()], text=True, capture_output=True)
        if done.returncode:
            raise Failed(f"ip {step}: {done.stderr.strip()}")
    # What comes back for forged addresses is counted and thrown away, not answered.
    lab.run(namespace, "sysctl", "-qw", "net.ipv4.ip_forward=0")


def remove_outsiders(lab):
    for place in ("flood", "guest"):
        subprocess.run(["ip", "netns", "del", lab.namespace(place)], capture_output=True)


def rss_kib(program):
    with open(f"/proc/{program.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def udp_sent(lab):
    """UDP datagrams and bytes that came out of the victim towards the flood's addresses: (packets, bytes without
    headers). ICMP errors of the kernel do not count: it is the node that is measured."""
    code, out, _ = lab.run(lab.namespace("flood"), "nft", "-j", "list", "counter", "netdev", "flood", "back")
    counters = [item["counter"] for item in json.loads(out)["nftables"] if "counter" in item] if code == 0 else []
    return (counters[0]["packets"], counters[0]["bytes"]) if counters else (0, 0)


def count_replies(lab):
    rules = """
        table netdev flood {
            counter back { }
            chain ingress { type filter hook ingress device wire priority 0; meta l4proto udp counter name back drop; }
        }
    """
    done = subprocess.run(["ip", "netns", "exec", lab.namespace("flood"), "nft", "-f", "-"], input=rules, text=True, capture_output=True)
    if done.returncode:
        raise Failed(f"nft: {done.stderr.strip()}")


class World:
    """The lab with a flow through it, ready to be flooded."""

    def __init__(self, lab, flood, given):
        self.lab, self.flood, self.given, self.guests = lab, flood, given, 0
        join_outsider(lab, "flood", "198.18.0", given.sources)
        count_replies(lab)
        join_outsider(lab, "guest", "198.19.0")
        if given.through == "run":
            self.address, programs = through_node(lab, None)
            self.victim, self.client = programs[-1], lab.pod("eu-1/client")
            self.lanes = self.node_lanes(VICTIM)
            self.server = lab.pod("us-1/server").namespace
        else:
            left, right = Device(lab, "eu-1", "10.77.0.1"), Device(lab, VICTIM, "10.77.0.2")
            left.peer(right.public, "10.77.0.2/32", "endpoint", f"{VICTIM_ADDRESS}:{PORT}")
            right.peer(left.public, "10.77.0.1/32")
            self.right, self.guest = right, Device(lab, "guest", "10.77.0.3")
            self.guest.peer(right.public, "10.77.0.2/32")
            self.address, self.victim = "10.77.0.2", right.program
            self.lanes = [(PORT, right.public)]
            self.server, self.client = lab.namespace(VICTIM), type("Place", (), {"namespace": lab.namespace("eu-1"), "label": "eu-1"})
        lab.spawn(self.server, "iperf3", "-s")
        # What has no reader is dropped by the kernel once the socket's buffer is full.
        self.discard = lab.spawn(
            lab.namespace(VICTIM), sys.executable, "-c",
            f"import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', {DISCARD_PORT})); time.sleep(1e6)",
        )
        if not eventually(lambda: lab.run(self.client.namespace, "iperf3", "-c", self.address, "-t", "1")[0] == 0, 15):
            raise Failed(f"no iperf3 run to {self.address} succeeds")

    def node_lanes(self, node):
        """The port and the key of each lane that a node tells the others."""
        for line in self.lab.read("us", f"node-{node}.yaml").splitlines():
            if "farlane.io/lanes" in line:
                # JSON in a string.
                lanes = json.loads(json.loads(line.split(":", 1)[1]))
                return [(int(lane["endpoint"].rsplit(":", 1)[1]), lane["key"]) for lane in lanes]
        raise Failed(f"{node} has no lanes")

    def start_floods(self, kind, seconds):
        """One flood, or one for each lane with its share of the rate."""
        mac = "wrong" if kind == "wrong MAC" else "right"
        targets = self.lanes if kind == ALL_LANES else self.lanes[:1]
        if kind == "discarded":
            targets = [(DISCARD_PORT, targets[0][1])]
        return [
            self.lab.spawn(
                self.lab.namespace("flood"), self.flood, f"{VICTIM_ADDRESS}:{port}", base64.b64decode(key).hex(),
                self.given.sources, str(self.given.rate // len(targets)), str(seconds), mac, output=subprocess.PIPE,
            )
            for port, key in targets
        ]

    def new_peer(self):
        """A peer that the victim knows and that has never spoken: seconds until it answers a ping, or None."""
        private, public = key_pair()
        path = f"{self.lab.dir}/guest.{self.guests}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(private)
        self.guests += 1
        wg(self.lab, "guest", "set", self.guest.name, "private-key", path)
        self.right.peer(public, "10.77.0.3/32")
        start = time.monotonic()
        self.guest.peer(self.right.public, "10.77.0.2/32", "endpoint", "198.19.0.1:%d" % PORT)
        ping = lambda: self.lab.run(self.guest_namespace(), "ping", "-n", "-c", "1", "-W", "0.2", "10.77.0.2")[0] == 0
        connected = eventually(ping, 20)
        return round(time.monotonic() - start, 2) if connected else None

    def guest_namespace(self):
        return self.lab.namespace("guest")

    def measure(self, kind):
        seconds = self.given.seconds
        memory, before, flooding, guest = [rss_kib(self.victim)], udp_sent(self.lab), [], []
        if kind != "no flood":
            # The flow is measured in the middle of the flood.
            flooding = self.start_floods(kind, seconds + 3)
            time.sleep(1)
        newcomer = threading.Thread(target=lambda: guest.append(self.new_peer()))
        if kind in ("right MAC", "wrong MAC") and self.given.through == "wireguard":
            newcomer.start()
        end = self.lab.iperf(self.client, self.address, seconds)
        memory.append(rss_kib(self.victim))
        run = {"gbitPerSecond": round(end["sum_received"]["bits_per_second"] / 1e9, 3)}
        if flooding:
            told = [result_of(flood) for flood in flooding]
            sent, length = sum(flood["sent"] for flood in told), max(flood["seconds"] for flood in told)
            memory.append(rss_kib(self.victim))
            packets, size = (after - b for after, b in zip(udp_sent(self.lab), before))
            # An nftables counter counts the IP packet; 28 bytes of it are headers. The guest's replies do not pass here.
            run |= {
                "floodPerSecond": round(sent / length),
                "repliesPerSecond": round(packets / length),
                "replyBytesPerRequestByte": round(size / (sent * (148 + 28)), 4),
            }
        if newcomer.is_alive() or guest:
            newcomer.join(30)
            run["newPeerSeconds"] = guest[0] if guest else None
        run["grownKiB"] = max(memory) - memory[0]
        run["rssKiB"] = max(memory)
        return run


def main():
    arguments = argparse.ArgumentParser(prog="scripts/bench-flood")
    arguments.add_argument("binary")
    arguments.add_argument("flood")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=8)
    arguments.add_argument("--rate", type=int, default=100_000)
    arguments.add_argument("--sources", default="10.99.0.0/16")
    arguments.add_argument("--through", choices=["wireguard", "run"], default="wireguard")
    arguments.add_argument("--json", metavar="FILE")
    given = arguments.parse_args()
    end_on_signals()
    # Everything here goes before other work on the machine: where a worker gets a fifth of a core, the flood that it must
    # look at is most of what it has time for, and the figures say how busy the machine was.
    os.nice(-15)
    kinds = KINDS + ([ALL_LANES] if given.through == "run" else [])
    runs = {kind: [] for kind in kinds}
    try:
        with Lab(given.binary, PODS, prefix="fd") as lab:
            try:
                world = World(lab, given.flood, given)
                idle = rss_kib(world.victim)
                for number in range(given.rounds):
                    for kind in kinds:
                        run = world.measure(kind)
                        runs[kind].append(run)
                        print(f"round {number + 1}: {kind}: {json.dumps(run)}", flush=True)
                        time.sleep(2)
            finally:
                remove_outsiders(lab)
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 1
    median = lambda kind, key: statistics.median(run[key] for run in runs[kind] if run.get(key) is not None) if any(
        run.get(key) is not None for run in runs[kind]) else None
    keys = ["gbitPerSecond", "floodPerSecond", "repliesPerSecond", "replyBytesPerRequestByte", "grownKiB", "newPeerSeconds"]
    medians = {kind: {key: median(kind, key) for key in keys} for kind in kinds}
    rate = lambda kind: medians[kind]["gbitPerSecond"]
    kept = {kind: round(rate(kind) / rate("discarded"), 3) for kind in kinds[2:]}
    worst = max((run["newPeerSeconds"] or 99 for of in runs.values() for run in of if "newPeerSeconds" in run), default=None)
    print()
    show = lambda value: "" if value is None else str(value)
    for line in table(
        ["median of %d" % given.rounds, "Gbit/s", "of discarded", "flood/s", "replies/s", "reply/request", "grown KiB", "new peer s"],
        [[kind, *[show(cell) for cell in (rate(kind), kept.get(kind), *(medians[kind][key] for key in keys[1:]))]] for kind in kinds],
    ):
        print(line)
    grown = max(run["rssKiB"] for of in runs.values() for run in of) - idle
    print(f"idle after the first flow: {idle} KiB, at most {grown} KiB more later; the slowest new peer: {show(worst)} s")
    if given.json:
        document = {"when": now(), "through": given.through, "sources": given.sources,
                    "idleRssKiB": idle, "grownOverIdleKiB": grown, "runs": runs, "medians": medians,
                    "keptOfDiscarded": kept, "slowestNewPeerSeconds": worst}
        write_json(given.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
