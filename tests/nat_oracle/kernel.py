"""The kernel's router with nftables' translation, in the network namespace that this runs in.

Usage: kernel.py RULES, where RULES is a file for nft. Each line of standard input is a packet, `client HEX` or
`backend HEX`, that comes in at that side's TUN. The answer is what leaves by either TUN until both are quiet, one
packet a line in the same form, and a line `.` behind them. The TUNs and all else go with the namespace.
"""

import fcntl
import os
import select
import struct
import subprocess
import sys

# linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
SIDES = ("client", "backend")
# A packet that a TUN gives is routed before write(2) returns (Linux drivers/net/tun.c, netif_receive_skb), so nothing
# is to be waited for; the kernel may still have handed it to another thread.
QUIET_MS = 2
PACKETS_MAX = 64

# Without what would come by itself, or only so often a second. Conntrack takes no connection up in its middle, as a
# service can only be asked for by a SYN. It does not look at checksums: what it would not translate could not be
# compared, and a router has no business with them (RFC 1812 section 5.2.2 names only the IP header's).
SETTINGS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.accept_source_route": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.addr_gen_mode": 1,
    "net.ipv6.icmp.ratelimit": 0,
    "net.ipv6.auto_flowlabels": 0,
    "net.netfilter.nf_conntrack_checksum": 0,
    "net.netfilter.nf_conntrack_tcp_loose": 0,
}
# Not every kernel has these for each namespace.
OPTIONAL_SETTINGS = {"net.ipv4.icmp_msgs_per_sec": 1000000, "net.ipv4.icmp_msgs_burst": 1000000}
# One node, and by which side each address of the test is reached: all but the client by the backend's.
COMMANDS = """
ip link set lo up
ip link set client mtu 9000 multicast off up
ip link set backend mtu 9000 multicast off up
ip address add 192.0.2.1/32 dev client
ip address add 192.0.2.1/32 dev backend
ip -6 address add 2001:db8::1/128 dev client nodad
ip -6 address add 2001:db8::1/128 dev backend nodad
ip route add 10.1.0.0/24 dev client
ip route add default dev backend
ip -6 route add fd10:1::/64 dev client
ip -6 route add default dev backend
"""


def write(name, value):
    with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
        file.write(str(value))


def tun(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def start(rules):
    subprocess.run(["nft", "-f", rules], check=True)
    for name, value in SETTINGS.items():
        write(name, value)
    for name, value in OPTIONAL_SETTINGS.items():
        try:
            write(name, value)
        except OSError:
            pass
    tuns = [tun(side) for side in SIDES]
    for command in COMMANDS.strip().splitlines():
        subprocess.run(command.split(), check=True)
    return tuns


def is_noise(packet):
    """What the kernel says of its own accord: to IPv6 multicast groups."""
    return packet[0] >> 4 == 6 and packet[24] == 0xFF


def drain(tuns):
    poll = select.poll()
    for fd in tuns:
        poll.register(fd, select.POLLIN)
    out = []
    while len(out) < PACKETS_MAX:
        ready = [fd for fd, _ in poll.poll(QUIET_MS)]
        if not ready:
            break
        for fd in ready:
            packet = os.read(fd, 65536)
            if not is_noise(packet):
                out.append((SIDES[tuns.index(fd)], packet))
    return out


def main():
    tuns = start(sys.argv[1])
    drain(tuns)
    print("ready", flush=True)
    for line in sys.stdin:
        side, text = line.split()
        try:
            os.write(tuns[SIDES.index(side)], bytes.fromhex(text))
        except OSError:
            pass  # a TUN refuses what is neither version of IP: that is a packet that does not pass
        for side, packet in drain(tuns):
            print(side, packet.hex())
        print(".", flush=True)


main()
