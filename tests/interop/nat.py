"""A small internet in network namespaces: the centre, a carrier, and an office of phones behind a NAT (nftables).

    carrier 192.0.2.2 -- 192.0.2.1 centre 203.0.113.1 -- 203.0.113.2 router 10.0.0.1 -- 10.0.0.11, 10.0.0.12 office

The router masquerades with ports of its own choosing, another for each place that a phone sends to, and lets nothing in
that no phone has asked for: what RFC 4787 calls address and port dependent, the worst that phones sit behind.
"""

import ctypes
import os
import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CENTRE, CENTRE_TO_CARRIER = "203.0.113.1", "192.0.2.1"
CARRIER = "192.0.2.2"
ROUTER, ROUTER_INSIDE = "203.0.113.2", "10.0.0.1"
DESKS = ("10.0.0.11", "10.0.0.12")

_RULES = """\
table ip nat {
    chain leaving {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "outside" masquerade fully-random
    }
}
table ip filter {
    chain passing {
        type filter hook forward priority filter; policy drop;
        iifname "inside" accept
        ct state established,related accept
    }
}
"""
_BROKEN = """\
table ip broken {
    chain arriving {
        type filter hook prerouting priority raw; policy drop;
    }
}
"""
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class Lab:
    """`inside` a place, sockets opened and programs started are there; `command` starts a program elsewhere."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(3)

    def name(self, place: str) -> str:
        return f"siaga-{place}-{self._mark}"

    def command(self, place: str) -> tuple[str, ...]:
        return "ip", "netns", "exec", self.name(place)

    @contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """This thread is there."""
        before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name(place)}", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(before)
            os.close(before)
            os.close(there)

    def forget_after(self, seconds: int) -> None:
        """How long the NAT remembers UDP that is silent."""
        for kind in ("udp_timeout", "udp_timeout_stream"):
            self._set("router", f"netfilter/nf_conntrack_{kind}", seconds)

    def mappings(self, port: int, protocol: str = "udp") -> set[int]:
        """The NAT's ports that lead to this port of the centre now."""
        with self.inside("router"):
            known = Path("/proc/thread-self/net/nf_conntrack").read_text()
        there_and_back = rf" {protocol} .* dst={CENTRE} sport=\d+ dport={port} .*src={CENTRE} .* dport=(\d+)"
        return {int(found) for found in re.findall(there_and_back, known)}

    @contextmanager
    def broken(self, place: str) -> Iterator[None]:
        """Nothing passes there, and nobody is told."""
        self._in(place, "nft", "-f", "-", text=_BROKEN)
        try:
            yield
        finally:
            self._in(place, "nft", "delete", "table", "ip", "broken")

    def _in(self, place: str, *command: str, text: str = "") -> None:
        _run(*self.command(place), *command, text=text)

    def build(self) -> None:
        for place in ("centre", "carrier", "router", "office"):
            _run("ip", "netns", "add", self.name(place))
            self._ip(place, "link", "set", "lo", "up")
        self._wire("centre", "trunk", f"{CENTRE_TO_CARRIER}/24", "carrier", "home", f"{CARRIER}/24")
        self._wire("centre", "wide", f"{CENTRE}/24", "router", "outside", f"{ROUTER}/24")
        self._wire("router", "inside", f"{ROUTER_INSIDE}/24", "office", "lan", f"{DESKS[0]}/24", f"{DESKS[1]}/24")
        self._ip("carrier", "route", "add", "default", "via", CENTRE_TO_CARRIER)
        self._ip("office", "route", "add", "default", "via", ROUTER_INSIDE)
        self._set("router", "ipv4/ip_forward", 1)
        self._in("router", "nft", "-f", "-", text=_RULES)

    def remove(self) -> None:
        for place in ("centre", "carrier", "router", "office"):
            subprocess.run(["ip", "netns", "del", self.name(place)], capture_output=True, check=False)

    def _set(self, place: str, name: str, value: int) -> None:
        with self.inside(place):
            Path("/proc/sys/net", name).write_text(str(value))

    def _wire(self, one: str, own: str, address: str, other: str, theirs: str, *addresses: str) -> None:
        peer = ("peer", "name", theirs, "netns", self.name(other))
        _run("ip", "link", "add", own, "netns", self.name(one), "type", "veth", *peer)
        self._ip(one, "address", "add", address, "dev", own)
        for each in addresses:
            self._ip(other, "address", "add", each, "dev", theirs)
        self._ip(one, "link", "set", own, "up")
        self._ip(other, "link", "set", theirs, "up")

    def _ip(self, place: str, *arguments: str) -> None:
        _run("ip", "-n", self.name(place), *arguments)


@contextmanager
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        made.build()
        yield made
    finally:
        made.remove()


def obstacle() -> str | None:
    """Why there can be no namespaces, or no NAT in them, here; None: there can."""
    if missing := [tool for tool in ("ip", "nft") if shutil.which(tool) is None]:
        return f"needs Debian's iproute2 and nftables: no {', '.join(missing)}"
    tried = Lab().name("tried")
    try:
        _run("ip", "netns", "add", tried)
        _run("ip", "netns", "exec", tried, "nft", "-f", "-", text=_RULES)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces with nftables here: {error.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", tried], capture_output=True, check=False)
    return None


def _run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text, capture_output=True, text=True, check=True)


def _enter(there: int) -> None:
    if _libc.setns(there, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
