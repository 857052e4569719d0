"""scripts/bench-workers, once Farlane is built: bench_workers.py BINARY [options]; see scripts/bench-workers."""
import argparse
import os
import subprocess
import sys

import flows as traffic
from lab import SCRIPTS, Failed, Lab, end_on_signals, eventually, now, table, write_json


def set_workers(lab, workers):
    for node in lab.node_names():
        with open(f"{lab.dir}/{node}/node.yaml", "a") as file:
            file.write(f"workers: {workers}\nlanes: 4\n")


def make_foreign(lab, command):
    """us-1 is a WireGuard that knows one key of eu-1, and of which eu-1 knows one key."""
    host, file = lab.namespace("us-1"), "node-us-1.yaml"
    lines = lab.read("us", file).splitlines()
    lab.apply("us", file, "\n".join(line for line in lines if "farlane.io/lanes" not in line) + "\n")
    code, key, error = lab.run(host, lab.binary, "key", "public", "--config", f"{lab.dir}/eu-1/node.yaml")
    if code:
        raise Failed(f"the key of eu-1: {error.strip()}")
    device = f"fw{os.getpid():x}"
    lab.spawn(host, *command(device), environment={"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"})
    if not eventually(lambda: lab.run(host, "wg", "show", device)[0] == 0, 10):
        raise Failed(f"the foreign WireGuard does not make its device {device}")
    pods = ["10.1.0.0/16", "fd10:1::/64"]
    for step in (
        ["wg", "set", device, "private-key", f"{lab.dir}/us-1/state/private.key", "listen-port", "51871", "peer", key.strip(),
         "endpoint", "192.0.2.1:51871", "allowed-ips", ",".join(pods)],
        ["ip", "link", "set", device, "mtu", "1420", "up"],
        *(["ip", "route", "add", prefix, "dev", device] for prefix in pods),
    ):
        code, _, error = lab.run(host, *step)
        if code:
            raise Failed(f"{' '.join(step[:3])}: {error.strip()}")


def workers_of(lab):
    """What the nodes say of their workers and drops, summed over the nodes."""
    crossed, drops, counts = 0, {}, []
    for node in lab.nodes:
        status = lab.status(node)
        if status is None:
            raise Failed(f"{node} does not answer; the end of its log:\n{lab.log(node)}")
        crossed += status["segments"]["crossedOut"]
        counts.append(len(status["workers"]))
        for reason, number in status["drops"].items():
            drops[reason] = drops.get(reason, 0) + number
    return crossed, drops, counts


def measure(given, label, foreign):
    """One fresh world: everyone to everyone."""
    names = [f"{node}/p{number}" for node in ("eu-1", "us-1") for number in range(given.pods // 2)]
    with Lab(given.binary, names, prefix="fw") as lab:
        set_workers(lab, given.workers)
        lab.exchange_keys()
        if foreign:
            make_foreign(lab, foreign)
            lab.start("eu-1")
        else:
            for node in lab.node_names():
                lab.start(node)
        all_flows = traffic.everyone_to_everyone(lab.pods)
        # Handshakes of all pairs of lanes, neighbours of all pods; twice, because a pod keeps only a few datagrams while
        # it looks for its gateway.
        warm = [traffic.run(lab.pods, all_flows, given.rate, 1, len(all_flows) / given.rate + 1) for _ in range(2)]
        result = traffic.run(lab.pods, all_flows, given.rate, given.burst, given.seconds)
        crossed, drops, counts = workers_of(lab)
    # A flow that never arrived, not one whose bursts found a machine that is too slow for the rate.
    never = [set(run["silent"]) for run in warm]
    silent = [flow for flow in result.pop("silent") if all(flow in run for run in never)]
    for flow in silent[:5]:
        print(f"{label}: nothing arrived from {flow.source.label} to {flow.target.label} over {flow.family}", file=sys.stderr)
    return {"world": label, "workers": counts, **result, "silent": len(silent), "crossed": crossed, "drops": drops}


def main():
    arguments = argparse.ArgumentParser(prog="scripts/bench-workers")
    arguments.add_argument("binary")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--pods", type=int, default=64)
    arguments.add_argument("--seconds", type=int, default=20)
    arguments.add_argument("--rate", type=int, default=20_000)
    arguments.add_argument("--burst", type=int, default=8)
    arguments.add_argument("--only", choices=["nodes", "foreign"])
    arguments.add_argument("--json", metavar="FILE")
    given = arguments.parse_args()
    end_on_signals()
    runs = []
    try:
        if given.only != "foreign":
            runs.append(measure(given, "two nodes", None))
        if given.only != "nodes":
            peer = subprocess.run([f"{SCRIPTS}/peer-wireguard-go"], check=True, text=True, capture_output=True).stdout.strip()
            runs.append(measure(given, "wireguard-go and a node", lambda device: [peer, "-f", device]))
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 1
    head = ["world", "flows", "sent", "received", "a second", "silent flows", "out of order", "crossed"]
    keys = ["world", "flows", "sent", "received", "perSecond", "silent", "outOfOrder", "crossed"]
    for line in table(head, [[run[key] for key in keys] for run in runs]):
        print(line)
    for run in runs:
        print(f"drops, {run['world']}: " + (", ".join(f"{number} {reason}" for reason, number in run["drops"].items()) or "none"))
    if given.json:
        write_json(given.json, {"when": now(), "runs": runs})
    return 1 if any(run["silent"] or run["outOfOrder"] for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
