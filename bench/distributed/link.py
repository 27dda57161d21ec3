"""A network of hosts on one Linux machine, each a network namespace, joined by links of a set latency and bandwidth.

    python -m xpnn.bench.distributed.link --hosts 2 --link "1 Gbit/s, 100 us"

Every host has a TUN device, the other end of which is this process: it hands on each packet when it would have come.
A host's packets leave one after the other at the bandwidth, and so do those that come to it. The kernel's own netem
is not built into every kernel; TUN nearly always is. It needs root, and Linux.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import click

from ...backends import ConfigError
from ..program import Program
from .model import Link, parse_link

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
PR_SET_TIMERSLACK = 29  # linux/prctl.h
LARGEST_PACKET = 60_000  # bytes; large, as a network card hands them over, so that this process can keep up
PREFIX = "xpnn"


class Wire:
    """The times at which packets arrive.

    Args:
        hosts: how many.
        link: of each of them.
    """

    def __init__(self, hosts: int, link: Link) -> None:
        self._link = link
        self._leaves, self._comes = [0.0] * hosts, [0.0] * hosts  # when each host's last packet had left, and come

    def arrival(self, now: float, size: int, source: int, target: int) -> float:
        """Return when a packet of `size` bytes arrives that is sent now, in seconds of the same clock."""
        begins = max(now, self._leaves[source], self._comes[target])
        ends = begins + size / self._link.bandwidth
        self._leaves[source] = self._comes[target] = ends
        return ends + self._link.latency


def make_host(number: int) -> int:
    """Make a host with the address 10.77.0.(number + 1); return the file of its device."""
    device, host = f"{PREFIX}{number}", f"{PREFIX}-host{number}"
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    for command in (
        f"ip netns add {host}",
        f"ip link set {device} netns {host}",
        f"ip -n {host} link set lo up",
        f"ip -n {host} addr add 10.77.0.{number + 1}/24 dev {device}",
        f"ip -n {host} link set {device} mtu {LARGEST_PACKET} txqueuelen 10000 up",
    ):
        subprocess.run(command.split(), check=True)
    return file


def hand_on(files: Sequence[int], wire: Wire) -> None:
    """Hand on packets, for ever."""
    under_way: list[tuple[float, int, int, bytes]] = []  # (arrival, number, host, packet), the next one first
    count, clock = 0, time.perf_counter
    while True:
        while under_way and under_way[0][0] <= clock():
            _, _, target, packet = heapq.heappop(under_way)
            with suppress(OSError):  # a full queue loses it, as a switch would
                os.write(files[target], packet)
        wait = max(0.0, under_way[0][0] - clock()) if under_way else None
        for file in select.select(files, [], [], wait)[0]:
            for _ in range(16):
                try:
                    packet = os.read(file, 1 << 16)
                except BlockingIOError:
                    break
                target = packet[19] - 1 if packet[0] >> 4 == 4 else -1  # IPv4: the end of where it goes
                if 0 <= target < len(files):
                    due = wire.arrival(clock(), len(packet), files.index(file), target)
                    heapq.heappush(under_way, (due, count, target, packet))
                    count += 1


@click.command(cls=Program)
@click.option("--hosts", type=click.IntRange(2, 64), default=2, show_default=True)
@click.option("--link", required=True, help='Of each host, such as "1 Gbit/s, 100 us".')
def main(hosts: int, link: str) -> None:
    """Make hosts that are joined by links; they last as long as this runs."""
    wire = Wire(hosts, parse_link(link))
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ConfigError("network namespaces need Linux, and root")
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)  # wake within a microsecond, not 50
    with suppress(OSError):  # ahead of ranks that wait busily
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        files = [make_host(number) for number in range(hosts)]
        click.echo("ready")
        hand_on(files, wire)
    finally:
        for number in range(hosts):
            subprocess.run(["ip", "netns", "del", f"{PREFIX}-host{number}"], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
