"""scripts/interop, once Farlane is built; see there."""
import argparse
import concurrent.futures
import dataclasses
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from lab import SCRIPTS, Failed, end_on_signals, eventually, stop, table, write_json

PORT = 51820
MTU = 1420
# Between two pings of a flow.
INTERVAL = 0.25
# How long before and after a move a ping may be lost: the other end learns of it by the mover's next packet.
MOVE_BEFORE, MOVE_AFTER = 0.5, 3.0
# WireGuard paper §6.1: the one who began does so again after 120 s, when it has something to send.
REKEY_AFTER = 120
# The same: a handshake without an answer is begun again after 5 s and up to a third of one.
REKEY_TIMEOUT = 5
# A message that is lost is repeated after 5 s, and there are slow machines.
REKEY_PATIENCE = 25
# Ways to start each program; boringtun 0.7.1 pins its source address to a connected socket, and could never move.
COMMANDS = {
    "wireguard-go": (["-f"], {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}),
    "boringtun-cli": (["--foreground", "--disable-drop-privileges", "--disable-connected-udp"], {}),
    "gotatun-cli": (["--foreground", "--disable-drop-privileges"], {"WG_LOG_LEVEL": "error"}),
}
# Set when the whole thing is to end.
ending = threading.Event()
# So many pairs are set up at once, that a small machine need not start fifty programs in one moment.
starting = threading.BoundedSemaphore(4)


class End:
    """One end of a pair: a network namespace, a program, an interface."""

    def __init__(self, name, command, environment, number, v6, directory, attempts):
        self.namespace = self.device = name
        self.socket, self.attempts = f"/var/run/wireguard/{name}.sock", attempts
        self.command, self.environment = command, environment
        self.number, self.v6 = number, v6
        self.outer = ("fd00:77::%d" if v6 else "192.0.2.%d") % number
        self.inner = [f"10.9.0.{number}", f"fd09::{number}"]
        self.log = f"{directory}/{name}.log"
        self.program = None
        self.private = output("wg", "genkey")
        self.public = output("wg", "pubkey", text=self.private)

    def run(self, *command, seconds=20, text=None):
        """Runs to the end within this namespace: exit code and all that it said."""
        inside = ["ip", "netns", "exec", self.namespace, *command]
        try:
            done = subprocess.run(inside, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
        except subprocess.TimeoutExpired:
            return 124, "timed out"
        return done.returncode, done.stdout

    def must(self, *command, text=None):
        code, said = self.run(*command, text=text)
        if code:
            raise Failed(f"{' '.join(command)[:60]}: {said.strip()}")
        return said

    def shell(self, line):
        return self.must("sh", "-ec", line)

    def spawn(self, *command, log):
        with open(log, "w") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *command], stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, env={**os.environ, **self.environment}, start_new_session=True,
            )

    def open(self):
        output("ip", "netns", "add", self.namespace)
        self.shell("sysctl -qw net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.default.accept_dad=0 "
                   "net.ipv6.conf.default.accept_ra=0; ip link set lo up")
        # wg deletes a socket that is bound and does not listen yet (its ipc-uapi-unix.h), so it is not asked before; but
        # somebody else's on this machine may be, and then a program ends, or nobody reaches it.
        for attempt in range(self.attempts):
            self.program = self.spawn(*self.command, self.device, log=self.log)
            if eventually(lambda: self.program.poll() is not None or self.listens(), 15) and self.program.poll() is None:
                break
            stop(self.program)
            with open(self.log) as log:
                said = f"{self.command[0]} does not come up: {log.read().strip()[-200:]}"
            if attempt + 1 == self.attempts:
                raise Failed(said)
            print(f"{said} (once more)", flush=True)
        self.must("wg", "show", self.device)

    def listens(self):
        with socket.socket(socket.AF_UNIX) as plug:
            return plug.connect_ex(self.socket) == 0

    def close(self):
        if self.program:
            stop(self.program)
        subprocess.run(["ip", "netns", "delete", self.namespace], stderr=subprocess.DEVNULL, check=False)
        try:
            os.unlink(self.socket)
        except FileNotFoundError:
            pass

    def address(self, outer):
        """The address outside, and only of the family that is tested: nothing else may carry."""
        return f"ip addr add {outer}/{'64 nodad' if self.v6 else '24'} dev eth0"

    def configure(self, other, preshared, endpoint):
        """Gives it key and peer, and takes its interface up. Keys go by standard input, not by arguments."""
        lines = ["[Interface]", f"PrivateKey = {self.private}", f"ListenPort = {PORT}", "[Peer]", f"PublicKey = {other.public}"]
        lines += [f"PresharedKey = {preshared}"] if preshared else []
        lines += [f"AllowedIPs = {other.inner[0]}/32, {other.inner[1]}/128"]
        lines += [f"Endpoint = {other.endpoint()}"] if endpoint else []
        self.must("wg", "setconf", self.device, "/dev/stdin", text="\n".join(lines) + "\n")
        self.shell(f"ip addr add {self.inner[0]}/24 dev {self.device}; ip addr add {self.inner[1]}/64 dev {self.device}; "
                   f"ip link set {self.device} mtu {MTU} up")

    def endpoint(self):
        return f"[{self.outer}]:{PORT}" if self.v6 else f"{self.outer}:{PORT}"

    def told(self, word):
        """`wg show` of its only peer, by one word."""
        return self.must("wg", "show", self.device, word).strip().partition("\t")[2]

    def handshake(self):
        """When the last handshake was completed, in seconds since 1970; 0 for never."""
        return int(self.told("latest-handshakes") or 0)

    def pings(self, address, count, *options):
        """How many of so many pings were answered."""
        _, said = self.run("ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "2", *options, address)
        received = re.search(r"(\d+) received", said)
        return int(received.group(1)) if received else 0

    def move(self, number):
        """Has it at another address from now on; the moment."""
        old, self.outer = self.outer, self.outer[: -len(str(self.number))] + str(number)
        self.number = number
        moment = time.time()
        self.shell(f"ip addr del {old}/{64 if self.v6 else 24} dev eth0; {self.address(self.outer)}")
        return moment


class Flow:
    """Pings without a break, each with the moment of its answer."""

    def __init__(self, end, other, directory):
        self.log, self.name = f"{directory}/{end.device}.ping", f"{end.inner[0]} to {other.inner[0]}"
        self.program = end.spawn("ping", "-n", "-D", "-i", str(INTERVAL), other.inner[0], log=self.log)

    def lost(self, moves):
        """Ends it; how many pings had no answer. Failed, if one of them was not in the moment of a move."""
        ended = time.time()
        stop(self.program)
        with open(self.log) as log:
            answers = [(int(seq), float(at)) for at, seq in re.findall(r"^\[([\d.]+)\].*icmp_seq=(\d+) ttl", log.read(), re.M)]
        if not answers or answers[0][0] > 1 or ended - answers[-1][1] > 2:
            raise Failed(f"{self.name}: no answers at the {'end' if answers and answers[0][0] == 1 else 'start'}")
        count = 0
        answers.sort()
        for (before, last), (after, next_one) in itertools.pairwise(answers):
            if after > before + 1:
                count += after - before - 1
                if not any(last >= move - MOVE_BEFORE and next_one <= move + MOVE_AFTER for move in moves):
                    lost_for = f"{next_one - last:.1f} s, {last - moves[0]:.1f} s after the first move"
                    raise Failed(f"{self.name}: {after - before - 1} pings lost within {lost_for}")
        return count


@dataclasses.dataclass
class Pair:
    """One line of the table."""

    peer: str
    begins: str
    outside: str
    preshared: bool
    facts: dict = dataclasses.field(default_factory=dict)
    result: str = ""

    def prove(self, ours, theirs, directory):
        """Everything, with both ends there."""
        first, second = (ours, theirs) if self.begins == "farlane" else (theirs, ours)
        with starting:
            for end in (ours, theirs):
                end.open()
            ours.shell(f"ip link add eth0 type veth peer name eth0 netns {theirs.namespace}")
            for end in (ours, theirs):
                end.shell(f"{end.address(end.outer)}; ip link set eth0 up")
            right = output("wg", "genpsk") if self.preshared else None
            # One of the two is wrong at first; ours, because boringtun cannot change a peer that it has.
            wrong = output("wg", "genpsk") if self.preshared else None
            for end, other in ((second, first), (first, second)):
                end.configure(other, wrong if end is ours else right, endpoint=end is first)
        if self.preshared:
            self.refuse_another_key(ours, first, second)
            ours.must("wg", "set", ours.device, "peer", theirs.public, "preshared-key", "/dev/stdin", text=right)
        # What was tried before is repeated within 5 s and a third.
        wait(15, "an answer", lambda: first.pings(second.inner[0], 1) == 1)
        wait(5, "a handshake", ours.handshake)
        learned = second.told("endpoints")
        if learned != first.endpoint():
            raise Failed(f"the one who answers has learned {learned}, not {first.endpoint()}")
        self.talk(ours, theirs)
        self.facts["talks"] = "yes"
        flows = [Flow(ours, theirs, directory), Flow(theirs, ours, directory)]
        try:
            pause(2)
            moves = [self.roam(theirs, ours, 12, "they move"), self.roam(ours, theirs, 11, "we move")]
            begun = ours.handshake()
            renewed = self.renewal(ours, begun)
            # wireguard-go winds its timer up after it has sent (SendHandshakeInitiation, device/send.go): an answer that is
            # faster finds nothing to stop, and the handshake is begun anew when REKEY_TIMEOUT is over, though there was one.
            if first.command[0].endswith("wireguard-go") and abs(renewed - begun - REKEY_TIMEOUT) <= 1:
                begun, renewed = renewed, self.renewal(ours, renewed)
            if renewed - begun < REKEY_AFTER - 2:
                raise Failed(f"a handshake {renewed - begun} s after the first one: too soon for a rekey")
            self.facts["rekey"] = f"{renewed - begun} s"
            pause(2)
            self.talk(ours, theirs)
            self.facts["lost"] = str(sum(flow.lost(moves) for flow in flows))
        finally:
            for flow in flows:
                stop(flow.program)

    def renewal(self, ours, begun):
        """When the handshake was that replaces the one at `begun`."""
        left = begun + REKEY_AFTER + REKEY_PATIENCE - time.time()
        return wait(left, "a rekey", lambda: (at := ours.handshake()) > begun and at, every=2)

    def refuse_another_key(self, ours, first, second):
        if first.pings(second.inner[0], 2):
            raise Failed("another pre-shared key lets pings through")
        # Only ours is asked: gotatun counts a handshake as soon as it has answered the first message.
        if ours.handshake():
            raise Failed("a handshake with another pre-shared key")
        self.facts["wrong key"] = "refused"

    def talk(self, ours, theirs):
        """Pings both ways, both families inside, small and as large as the interface lets through."""
        for one, other in ((ours, theirs), (theirs, ours)):
            for address, headers in zip(other.inner, (28, 48)):
                for options in ((), ("-M", "do", "-s", str(MTU - headers))):
                    if one.pings(address, 3, *options) != 3:
                        raise Failed(f"{one.command[0]}: pings to {address} {' '.join(options)} lost")

    def roam(self, mover, watcher, number, fact):
        moment = mover.move(number)
        wait(5, f"{mover.endpoint()} as the endpoint", lambda: watcher.told("endpoints") == mover.endpoint())
        self.facts[fact] = "followed"
        # What was on its way must have come, or be lost, before the next one moves.
        pause(MOVE_AFTER)
        return moment

    def run(self, farlane, peer, number, directory):
        v6 = self.outside == "IPv6"
        ends = []
        try:
            for side, (command, environment) in zip("ab", (([farlane, "wireguard", "--foreground"], {}), peer)):
                name = f"fi{os.getpid():x}{side}{number}"
                # Ours must come up whatever others do.
                attempts = 3 if ends else 1
                ends.append(End(name, command, environment, len(ends) + 1, v6, directory, attempts))
            self.prove(*ends, directory)
            self.result = "passed"
        except Failed as problem:
            self.result = f"FAILED: {problem}"
        finally:
            for end in ends:
                end.close()
        print(f"{self.peer}, {self.begins} begins, {self.outside}{', pre-shared key' if self.preshared else ''}: {self.result}", flush=True)


def output(*command, text=None):
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=20)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def pause(seconds):
    if ending.wait(seconds):
        raise Failed("ended from outside")


def wait(seconds, what, question, every=0.2):
    """Asks until the answer is not empty, and returns it."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > end:
            raise Failed(f"{what} did not come within {seconds:.0f} s")
        pause(every)
    return answer


def program_of(peer):
    """How to start a peer, or why there is none."""
    script = [f"{SCRIPTS}/peer-wireguard-go"] if peer == "wireguard-go" else [f"{SCRIPTS}/peer-crate", peer]
    done = subprocess.run(script, text=True, capture_output=True)
    if done.returncode:
        said = " ".join(done.stderr.split())
        return None, said or "it cannot be had"
    options, environment = COMMANDS[peer]
    return ([done.stdout.strip(), *options], environment), None


def main():
    arguments = argparse.ArgumentParser(prog="scripts/interop")
    arguments.add_argument("--farlane", required=True)
    arguments.add_argument("--only", action="append", choices=list(COMMANDS))
    arguments.add_argument("--json", metavar="FILE")
    given = arguments.parse_args()
    end_on_signals()
    directory = tempfile.mkdtemp(prefix="farlane-interop-")
    pairs, runs = [], []
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=64)
    try:
        for peer in given.only or COMMANDS:
            program, reason = program_of(peer)
            for begins, outside, preshared in itertools.product(("farlane", peer), ("IPv4", "IPv6"), (False, True)):
                pair = Pair(peer, begins, outside, preshared)
                pairs.append(pair)
                if program:
                    runs.append(pool.submit(pair.run, given.farlane, program, len(pairs), directory))
                else:
                    pair.result = f"NOT RUN: {reason}"
        for run in runs:
            run.result()
    finally:
        ending.set()
        pool.shutdown()
        shutil.rmtree(directory, ignore_errors=True)
    facts = ["talks", "wrong key", "they move", "we move", "rekey", "lost"]
    print()
    for line in table(
        ["peer", "begins", "outside", "pre-shared key", *(facts[:4]), "rekey after", "pings lost in moves", "result"],
        [[p.peer, p.begins, p.outside, "yes" if p.preshared else "no", *(p.facts.get(fact, "-") for fact in facts), p.result] for p in pairs],
    ):
        print(line)
    passed = sum(pair.result == "passed" for pair in pairs)
    not_run = sum(pair.result.startswith("NOT RUN") for pair in pairs)
    print(f"\n{passed} passed, {len(pairs) - passed - not_run} failed, {not_run} not run")
    if given.json:
        write_json(given.json, [dataclasses.asdict(pair) for pair in pairs])
    return 1 if passed + not_run < len(pairs) else 3 if not_run else 0


if __name__ == "__main__":
    sys.exit(main())
