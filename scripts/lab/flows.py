"""Many UDP flows between namespaces at once, each datagram with its number: what arrives, and in which order.

One process sends and one receives, for all pods: a socket belongs for ever to the namespace that it was made in."""
import ctypes
import multiprocessing
import os
import select
import socket
import struct
import time

HEAD = struct.Struct("!IQ")  # flow, number of the datagram in it
PORT = 9000
BUFFER = 8 << 20
LIBC = ctypes.CDLL(None, use_errno=True)


class Flow:
    """From one pod to another by one family; `number` is its place in the list of all."""

    def __init__(self, number, source, target, family):
        self.number, self.source, self.target, self.family = number, source, target, family
        # Small ones and such as fill a packet, so that both kinds are between each two pods' neighbours.
        self.length = 1200 if number % 3 == 0 else 200


def everyone_to_everyone(pods):
    """One flow from each pod to each other, of either family in turn, and one more of the other family to the next."""
    pairs = [(a, b, (i + j) % 2) for i, a in enumerate(pods) for j, b in enumerate(pods) if a is not b]
    # Between neighbours the first is of IPv6, but from the last to the first.
    pairs += [(a, pods[(i + 1) % len(pods)], (i + (i + 1) % len(pods) + 1) % 2) for i, a in enumerate(pods)]
    return [Flow(number, a, b, "IPv6" if six else "IPv4") for number, (a, b, six) in enumerate(pairs)]


def open_socket(pod, family, port):
    """A UDP socket in the pod's namespace, bound to its address."""
    with open(f"/run/netns/{pod.namespace}") as namespace:
        if LIBC.setns(namespace.fileno(), 0x40000000):  # CLONE_NEWNET of linux/sched.h
            raise OSError(ctypes.get_errno(), f"setns to {pod.namespace}")
    sock = socket.socket(socket.AF_INET6 if family == "IPv6" else socket.AF_INET, socket.SOCK_DGRAM)
    # SO_RCVBUFFORCE and SO_SNDBUFFORCE of asm-generic/socket.h: past what the machine allows to all.
    sock.setsockopt(socket.SOL_SOCKET, 33, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, 32, BUFFER)
    sock.bind((pod.address(family), port))
    sock.setblocking(False)
    return sock


def send(flows, rate, burst, seconds, result):
    """Sends `burst` datagrams of each flow in turn, `rate` a second of all together."""
    # A sender that changes its core in the middle of a burst would have the kernel itself overtake it: what it left in
    # the first core's backlog comes later than what it puts into the second's.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sockets = {(f.source.namespace, f.family): None for f in flows}
    for flow in flows:
        key = flow.source.namespace, flow.family
        sockets[key] = sockets[key] or open_socket(flow.source, flow.family, 0)
    plan = [(f, sockets[f.source.namespace, f.family], (f.target.address(f.family), PORT), bytes(f.length - HEAD.size)) for f in flows]
    sent, refused = [0] * len(flows), 0
    start = time.monotonic()
    due, end = start, start + seconds
    while time.monotonic() < end:
        for flow, sock, target, filling in plan:
            for _ in range(burst):
                try:
                    sock.sendto(HEAD.pack(flow.number, sent[flow.number]) + filling, target)
                    sent[flow.number] += 1
                except OSError:
                    refused += 1
            due += burst / rate
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
        # Where the machine cannot keep up, the rate is what it can.
        due = max(due, time.monotonic() - 0.1)
    result.put((sent, refused))


def receive(flows, pods, ready, stop, result):
    """Counts what arrives: of each flow how many, how many behind a later one, and the highest number."""
    count, late, highest = [0] * len(flows), [0] * len(flows), [-1] * len(flows)
    poll, sockets = select.epoll(), {}
    for pod in pods:
        for family in ("IPv4", "IPv6"):
            sock = open_socket(pod, family, PORT)
            sockets[sock.fileno()] = sock
            poll.register(sock.fileno(), select.EPOLLIN)
    ready.set()
    buffer = bytearray(65536)
    quiet = 0
    while not stop.is_set() or quiet < 10:
        events = poll.poll(0.1)
        quiet = 0 if events else quiet + 1
        for descriptor, _ in events:
            sock = sockets[descriptor]
            for _ in range(64):
                try:
                    sock.recv_into(buffer)
                except BlockingIOError:
                    break
                flow, number = HEAD.unpack_from(buffer)
                count[flow] += 1
                if number <= highest[flow]:
                    late[flow] += 1
                else:
                    highest[flow] = number
    result.put((count, late))


def run(pods, flows, rate, burst, seconds):
    """Sends for `seconds` and waits for the last that arrives; the sums, and the flows of which nothing arrived."""
    context = multiprocessing.get_context("fork")
    sent_by, counted_by, ready, stop = context.SimpleQueue(), context.SimpleQueue(), context.Event(), context.Event()
    receiver = context.Process(target=receive, args=(flows, pods, ready, stop, counted_by), daemon=True)
    sender = context.Process(target=send, args=(flows, rate, burst, seconds, sent_by), daemon=True)
    receiver.start()
    ready.wait(30)
    sender.start()
    sent, refused = sent_by.get()
    stop.set()
    count, late = counted_by.get()
    for process in (sender, receiver):
        process.join()
    return {
        "flows": len(flows),
        "sent": sum(sent),
        "refusedBySender": refused,
        "received": sum(count),
        "outOfOrder": sum(late),
        "flowsOutOfOrder": sum(1 for n in late if n),
        "silent": [flow for flow in flows if count[flow.number] == 0],
        "perSecond": round(sum(count) / seconds),
    }
