"""scripts/bench-peers, once Farlane is built; see there."""
import argparse
import base64
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from lab import Failed, cpu_seconds, end_on_signals, eventually, now, stop, table, write_json

PORT = 51820
IPERF_PORT = 5201
# Allowed IPs of each peer; the 100,000 among 20,000 peers.
ALLOWED = 5
IDLE_SECONDS = 10
# Between two pings of the flow that must not stand still.
PING_INTERVAL = 0.005
# Large enough to count, small enough that packets count and not bytes.
UDP_PAYLOAD = 512


def prefixes(peer):
    """The allowed IPs of a peer: nested ones and both families, and no two peers with the same."""
    high, low = divmod(peer, 256)
    return [f"10.{high}.{low}.0/24", f"10.{high}.{low}.128/25", f"10.{high}.{low}.200/32",
            f"fd00:{peer:x}::/64", f"fd00:{peer:x}:0:0:8000::/65"]


def addresses(peer):
    """Some of each allowed IP of IPv4."""
    network = prefixes(peer)[0].removesuffix("0/24")
    return [f"{network}{last}" for last in (1, 7, 100, 129, 150, 200, 250)]


def configuration(private, peers, real, public, far):
    """A file for `wg setconf`: so many peers, with the real one at its place."""
    lines = ["[Interface]", f"PrivateKey = {private}", f"ListenPort = {PORT}"]
    # In no order: a table that is filled from one end to the other has it easy.
    for peer in random.sample(peers, len(peers)):
        lines += ["[Peer]", f"AllowedIPs = {', '.join(prefixes(peer))}"]
        if peer == real:
            lines += [f"PublicKey = {public}", f"Endpoint = {far}:{PORT}"]
        else:
            # Any 32 bytes are a public key of somebody.
            lines += [f"PublicKey = {base64.b64encode(os.urandom(32)).decode()}", f"Endpoint = 192.0.2.{peer % 200 + 20}:{PORT}"]
    return "\n".join(lines) + "\n"


class Side:
    """A network namespace with an interface of ours."""

    def __init__(self, farlane, name, outer):
        self.farlane, self.name, self.outer = farlane, name, outer
        self.private = command("wg", "genkey")
        self.public = command("wg", "pubkey", text=self.private)
        self.program = None

    def open(self):
        command("ip", "netns", "add", self.name)
        self.shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=0; ip link set lo up")
        self.program = self.spawn(self.farlane, "wireguard", "--foreground", self.name)
        if not eventually(lambda: self.run("wg", "show", self.name).returncode == 0, 10):
            raise Failed(f"{self.name} does not come up")

    def close(self):
        if self.program:
            stop(self.program)
        subprocess.run(["ip", "netns", "delete", self.name], stderr=subprocess.DEVNULL, check=False)

    def run(self, *words, text=None, seconds=60):
        return subprocess.run(["ip", "netns", "exec", self.name, *words], input=text, text=True, capture_output=True, timeout=seconds)

    def must(self, *words, text=None, seconds=60):
        done = self.run(*words, text=text, seconds=seconds)
        if done.returncode:
            raise Failed(f"{' '.join(words)[:60]}: {done.stderr.strip()}")
        return done.stdout

    def shell(self, line):
        return self.must("sh", "-ec", line)

    def spawn(self, *words, output=subprocess.DEVNULL):
        return subprocess.Popen(["ip", "netns", "exec", self.name, *words], stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.DEVNULL, text=True, start_new_session=True)

    def memory(self):
        """Resident memory of the process in bytes."""
        with open(f"/proc/{self.program.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024

    def sent(self):
        """Bytes that were sealed for all peers."""
        return sum(int(line.split()[2]) for line in self.must("wg", "show", self.name, "transfer").splitlines())


class Hub:
    """An interface with many peers, or one, and the far end of the real one."""

    def __init__(self, farlane, label, count, directory):
        name = f"fb{os.getpid():x}{label}"
        self.count, self.real = count, count // 2
        self.near, self.far = Side(farlane, f"{name}n", "192.0.2.1"), Side(farlane, f"{name}f", "192.0.2.2")
        self.file = f"{directory}/{label}.conf"
        with open(self.file, "w") as file:
            file.write(configuration(self.near.private, range(count), self.real, self.far.public, self.far.outer))

    def open(self):
        """Both ends, joined; the far one has its single peer, the near one none yet."""
        for side in (self.near, self.far):
            side.open()
        self.near.shell(f"ip link add eth0 type veth peer name eth0 netns {self.far.name}")
        for side in (self.near, self.far):
            side.shell(f"ip addr add {side.outer}/24 dev eth0; ip link set eth0 up; ip link set {side.name} mtu 1420 up")
        text = f"[Interface]\nPrivateKey = {self.far.private}\nListenPort = {PORT}\n[Peer]\nPublicKey = {self.near.public}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        self.far.must("wg", "setconf", self.far.name, "/dev/stdin", text=text)
        self.near.shell(f"ip addr add 10.255.0.1/32 dev {self.near.name}; ip route add 10.0.0.0/8 dev {self.near.name}")
        self.far.shell(f"ip route add 10.255.0.1/32 dev {self.far.name}; ip route add local {prefixes(self.real)[0]} dev lo")

    def set_up(self):
        """Gives the near end its peers; seconds that it took."""
        begun = time.monotonic()
        self.near.must("wg", "setconf", self.near.name, self.file)
        took = time.monotonic() - begun
        listed = len(self.near.must("wg", "show", self.near.name, "peers").splitlines())
        if listed != self.count:
            raise Failed(f"{listed} of {self.count} peers are there")
        if not eventually(lambda: self.near.run("ping", "-c", "1", "-W", "1", self.address()).returncode == 0, 15):
            raise Failed("the real peer does not answer")
        return took

    def address(self):
        return addresses(self.real)[1]

    def worst_ping(self, meanwhile):
        """The latest answer in ms of a running flow while something else is done, and seconds that this took."""
        pings = self.near.spawn("ping", "-n", "-i", str(PING_INTERVAL), self.address(), output=subprocess.PIPE)
        time.sleep(0.5)
        begun = time.monotonic()
        meanwhile()
        took = time.monotonic() - begun
        time.sleep(0.5)
        pings.send_signal(subprocess.signal.SIGINT)
        said, _ = pings.communicate(timeout=10)
        times = [float(ms) for ms in re.findall(r"time=([\d.]+) ms", said)]
        lost = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        return {"seconds": round(took, 3), "worstPingMs": max(times), "lost": int(lost.group(1)) - int(lost.group(2))}

    def cpu_of(self, work):
        """CPU seconds of the near process for something, and what it returned."""
        before = cpu_seconds(self.near.program)
        result = work()
        return cpu_seconds(self.near.program) - before, result

    def idle(self):
        """Part of a core in percent when nothing happens."""
        cpu, _ = self.cpu_of(lambda: time.sleep(IDLE_SECONDS))
        return round(100 * cpu / IDLE_SECONDS, 2)

    def tcp(self, seconds, *options):
        """CPU seconds of the near process for each GiB of one TCP flow."""
        iperf = ["iperf3", "-J", "-c", self.address(), "-p", str(IPERF_PORT), "-t", str(seconds), *options]
        cpu, said = self.cpu_of(lambda: self.near.must(*iperf))
        end = json.loads(said)["end"]["sum_received"]
        return round(cpu / (end["bytes"] / 2**30), 3)

    def packets(self, seconds):
        """CPU microseconds of the near process for each UDP packet to many addresses."""
        before = self.near.sent()
        cpu, _ = self.cpu_of(lambda: self.near.must(sys.executable, "-B", __file__, "--send", str(seconds), *addresses(self.real)))
        # 28 bytes of headers, padded to 16, and 32 of the tunnel's own.
        size = -(-(UDP_PAYLOAD + 28) // 16) * 16 + 32
        return round(cpu * 1e6 / ((self.near.sent() - before) / size), 3)


def command(*words, text=None):
    done = subprocess.run(words, input=text, text=True, capture_output=True, timeout=20)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def send(seconds, to):
    """Sends UDP packets to each of these in turn, as fast as it can."""
    plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    payload, places = bytes(UDP_PAYLOAD), [(address, 9) for address in to]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for place in places * 20:
            plug.sendto(payload, place)
        # The interface's queue is short, and what does not fit costs only the sender.
        time.sleep(0.0005)


def measure(one, many, pairs, seconds):
    """The same through both, in turn."""
    runs = {"tcpSent": [], "tcpReceived": [], "udp": []}
    for number in range(pairs):
        for kind, of in (("tcpSent", lambda hub: hub.tcp(seconds)), ("tcpReceived", lambda hub: hub.tcp(seconds, "-R")), ("udp", lambda hub: hub.packets(seconds))):
            pair = [of(hub) for hub in (one, many)]
            runs[kind].append(pair)
            print(f"pair {number + 1}: {kind}: {pair[0]} with one peer, {pair[1]} with {many.count}", flush=True)
    medians = {kind: [statistics.median(column) for column in zip(*of)] for kind, of in runs.items()}
    # Each pair in itself: what drifts between pairs cancels out.
    ratios = {kind: round(statistics.median(b / a for a, b in of), 3) for kind, of in runs.items()}
    return {"runs": runs, "medians": medians, "ratios": ratios}


def prove(given, directory):
    one, many = Hub(given.farlane, "a", 1, directory), Hub(given.farlane, "b", given.peers, directory)
    servers = []
    try:
        for hub in (one, many):
            hub.open()
        before = many.near.memory()
        told = {"setupSeconds": [round(hub.set_up(), 3) for hub in (one, many)]}
        told["bytesOfPeer"] = (many.near.memory() - before) // given.peers
        told["idlePercent"] = [hub.idle() for hub in (one, many)]
        with open(many.file) as file:
            lines = file.read().split("[Peer]")
        # All the others again, in one request: what a running flow notices of it.
        with open(f"{directory}/others.conf", "w") as file:
            file.write("[Peer]".join(["", *(peer for peer in lines[1:] if many.far.public not in peer)]))
        show = ["wg", "show", many.near.name, "dump"]
        told["show"] = many.worst_ping(lambda: many.near.must(*show))
        told["again"] = many.worst_ping(lambda: many.near.must("wg", "addconf", many.near.name, f"{directory}/others.conf"))
        told["quiet"] = many.worst_ping(lambda: time.sleep(1))
        servers = [hub.far.spawn("iperf3", "-s", "-p", str(IPERF_PORT)) for hub in (one, many)]
        for hub in (one, many):
            if not eventually(lambda: f":{IPERF_PORT}" in hub.far.must("ss", "-ltnH"), 10):
                raise Failed("iperf3 does not listen")
        return told | measure(one, many, given.pairs, given.seconds)
    finally:
        for server in servers:
            stop(server)
        for hub in (one, many):
            for side in (hub.near, hub.far):
                side.close()


def main():
    arguments = argparse.ArgumentParser(prog="scripts/bench-peers")
    arguments.add_argument("--farlane", required=True)
    arguments.add_argument("--peers", type=int, default=20000)
    arguments.add_argument("--pairs", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("--json", metavar="FILE")
    given = arguments.parse_args()
    end_on_signals()
    directory = tempfile.mkdtemp(prefix="farlane-peers-")
    try:
        told = prove(given, directory)
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    allowed = given.peers * ALLOWED
    rows = [["wg setconf, s", *told["setupSeconds"], ""], ["idle CPU, % of a core", *told["idlePercent"], ""]]
    for kind, name in (("tcpSent", "TCP sent, CPU s/GiB"), ("tcpReceived", "TCP received, CPU s/GiB"), ("udp", "UDP to many addresses, CPU us a packet")):
        rows.append([name, *told["medians"][kind], told["ratios"][kind]])
    print()
    for line in table([f"median of {given.pairs}", "1 peer", f"{given.peers} peers, {allowed} allowed IPs", "ratio"], rows):
        print(line)
    print(f"\n{told['bytesOfPeer']} bytes of memory for each peer and its allowed IPs")
    for what, name in (("show", "wg show dump"), ("again", "wg addconf of all the others again"), ("quiet", "nothing for comparison")):
        print(f"{name}: {told[what]['seconds']} s; the worst ping meanwhile {told[what]['worstPingMs']} ms, {told[what]['lost']} lost")
    if given.json:
        write_json(given.json, {"when": now(), "peers": given.peers, "allowed": allowed, **told})
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        send(float(sys.argv[2]), sys.argv[3:])
    else:
        sys.exit(main())
