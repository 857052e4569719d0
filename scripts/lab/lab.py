"""Two clusters on this machine, for scripts/bench-node and its like: scripts/topology draws them, this drives them.

A Lab is a context: whatever happens inside, also an interrupt, nothing of it stays on the machine."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERTZ = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """Something that the lab itself needs did not work; the text says what."""


def end_on_signals():
    """Makes SIGTERM and SIGHUP unwind as Ctrl-C does, so that contexts clean up."""

    def leave(number, _):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)


class Pod:
    def __init__(self, line):
        self.node, self.name, self.namespace, self.v4, self.v6 = line.split()
        self.cluster = self.node.split("-")[0]
        self.label = f"{self.node}/{self.name}"

    def address(self, family):
        return self.v6 if family == "IPv6" else self.v4


class Lab:
    def __init__(self, binary, pods, prefix="fl", nodes=1):
        self.binary, self.prefix = binary, f"{prefix}{os.getpid():x}"
        self.node_count, self.wanted = nodes, pods
        self.programs, self.pods, self.nodes = [], [], {}

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="farlane-")
        try:
            self.topology("up", "--nodes", str(self.node_count), *self.wanted)
            self.pods = [Pod(line) for line in self.topology("pods").splitlines()]
            self.topology("files", self.dir)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # From here on an impatient second Ctrl-C must not leave namespaces behind.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for program in reversed(self.programs):
            stop(program)
        self.topology("down", check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
        end_on_signals()

    def topology(self, verb, *arguments, check=True):
        done = subprocess.run([f"{SCRIPTS}/topology", verb, self.prefix, *arguments], text=True, capture_output=True)
        if check and done.returncode:
            raise Failed(f"scripts/topology {verb}: {done.stderr.strip()}")
        return done.stdout

    def namespace(self, place):
        return f"{self.prefix}-{place}"

    def pod(self, label):
        return next(pod for pod in self.pods if pod.label == label)

    def run(self, namespace, *command, seconds=20):
        """Runs to the end; (exit code, standard output, standard error). Code 124 when the time is up."""
        try:
            done = subprocess.run(["ip", "netns", "exec", namespace, *command], text=True, capture_output=True, timeout=seconds)
            return done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            return 124, "", "timed out"

    def spawn(self, namespace, *command, output=subprocess.DEVNULL, environment=None):
        program = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT if output != subprocess.PIPE else subprocess.DEVNULL,
            text=True, env={**os.environ, **(environment or {})}, start_new_session=True,
        )
        self.programs.append(program)
        return program

    def apply(self, cluster, name, text):
        """Puts a manifest among a cluster's, renamed into place; the moment at which it was there."""
        path = f"{self.dir}/manifests/{cluster}/{name}"
        with open(f"{self.dir}/draft", "w") as draft:
            draft.write(text)
        os.rename(f"{self.dir}/draft", path)
        return time.time()

    def read(self, cluster, name):
        with open(f"{self.dir}/manifests/{cluster}/{name}") as file:
            return file.read()

    def exchange_keys(self):
        """Gives each node its key, and puts its Node object where both clusters read it."""
        for node in self.node_names():
            code, out, error = self.run(self.namespace(node), self.binary, "node", "--config", f"{self.dir}/{node}/node.yaml")
            if code:
                raise Failed(f"farlane node for {node}: {error.strip()}")
            self.apply(node.split("-")[0], f"node-{node}.yaml", out)

    def node_names(self):
        return [f"{cluster}-{number + 1}" for cluster in ("eu", "us") for number in range(self.node_count)]

    def start(self, node):
        """Starts `farlane run` on a node, and waits until it answers."""
        with open(f"{self.dir}/{node}/log", "w") as log:
            self.nodes[node] = self.spawn(self.namespace(node), self.binary, "run", "--config", f"{self.dir}/{node}/node.yaml", output=log)
        if not eventually(lambda: self.status(node) is not None or self.nodes[node].poll() is not None, 15) or self.status(node) is None:
            raise Failed(f"farlane run on {node} does not answer; the end of its log:\n{self.log(node)}")

    def log(self, node, lines=15):
        with open(f"{self.dir}/{node}/log") as log:
            return "".join(log.readlines()[-lines:])

    def status(self, node):
        code, out, _ = self.run(self.namespace(node), self.binary, "status", "--json", "--socket", f"{self.dir}/{node}/farlane.sock", seconds=5)
        return json.loads(out) if code == 0 else None

    def serve(self, pod, port):
        """The pod answers with its name (scripts/answer); returns when it listens."""
        program = self.spawn(pod.namespace, f"{SCRIPTS}/answer", pod.label, str(port), output=subprocess.PIPE)
        if program.stdout.readline().strip() != "ready":
            raise Failed(f"{pod.label} does not serve port {port}")
        return program

    def attempts(self, pod, address, port, seconds):
        """Starts scripts/attempts; its result comes with `result_of`."""
        return self.spawn(pod.namespace, f"{SCRIPTS}/attempts", address, str(port), str(seconds), output=subprocess.PIPE)

    def iperf(self, pod, address, seconds, *options):
        """One iperf3 run: the summary of what was received, or Failed."""
        code, out, error = self.run(pod.namespace, "iperf3", "-c", address, "-t", str(seconds), "-J", *options, seconds=seconds + 20)
        try:
            report = json.loads(out)
        except ValueError:
            raise Failed(f"iperf3 from {pod.label} to {address}: {error or out}") from None
        if report.get("error") or "end" not in report:
            raise Failed(f"iperf3 from {pod.label} to {address}: {report.get('error')}")
        return report["end"]


def result_of(program, seconds=60):
    """Waits for a program that prints one JSON document."""
    out, _ = program.communicate(timeout=seconds)
    return json.loads(out)


def stop(program):
    if program.poll() is None:
        # One that was stopped hears TERM only after CONT.
        program.send_signal(signal.SIGCONT)
        program.terminate()
        try:
            program.wait(5)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
    if program.stdout:
        program.stdout.close()


def eventually(question, seconds):
    end = time.monotonic() + seconds
    while not question():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def url(address, port):
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


def cpu_seconds(program):
    """User and system time of a process so far."""
    with open(f"/proc/{program.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


def now():
    """The time in RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write_json(path, document):
    """Writes what a program is to read."""
    with open(path, "w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")


def table(head, rows):
    """Lines of a plain table; widths follow the content."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    yield "  ".join(cell.ljust(width) for cell, width in zip(head, widths)).rstrip()
    yield "  ".join("-" * width for width in widths)
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
