"""The kernel's part of a source lock: a socket filter (BPF) that drops foreign packets and counts them.

A flood that Python reads, a packet at a time, takes the place of the far side's packets in the socket's buffer; one
that the kernel turns away does not. A kernel that refuses the filter leaves the worker as it would be without.
"""

import socket
import struct
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

from siaga_pbx.media.source import Place

MAX_PLACES = 64
"""A longer list is not worth a filter: it is gone through for each packet."""

_ATTACH, _DETACH, _MEMINFO = 26, 27, 55
"""SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_MEMINFO (asm-generic/socket.h)."""
_COUNTS = struct.Struct("9I")
"""What SO_MEMINFO gives; the last is how many packets the socket did not get (linux/sock_diag.h)."""
_LOAD, _LOAD_HALF, _AND, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x54, 0x15, 0x06
"""Of classic BPF (linux/filter.h): ld [k], ldh [k], and #k, jeq #k, ret #k."""
_IP_HEADER = -0x100000 & 0xFFFFFFFF
"""SKF_NET_OFF: offsets from here are from the IP header, those from 0 from the UDP header."""
_SOURCE = {4: (12,), 6: (8, 12, 16, 20)}
"""Where the words of the source address are in the IP header."""
_ALL = 0xFFFFFFFF

Instruction: TypeAlias = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


def admit_only(bound: socket.socket, places: Sequence[Place]) -> bool:
    """From now on the socket gets only what comes from there; whether the kernel sees to it."""
    if len(places) > MAX_PLACES:
        return False
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program(places))
    placed = array("B", code)  # where the kernel reads it, until the call has returned
    with suppress(OSError):
        bound.setsockopt(socket.SOL_SOCKET, _ATTACH, struct.pack("@HP", len(code) // 8, placed.buffer_info()[0]))
        return True
    return False


def admit_all(bound: socket.socket) -> None:
    """The end of `admit_only`."""
    with suppress(OSError):
        bound.setsockopt(socket.SOL_SOCKET, _DETACH, 0)


def dropped(bound: socket.socket) -> int:
    """Packets that the socket did not get since it was made: turned away, or its buffer was full. Of 32 bits."""
    with suppress(OSError, struct.error):
        return int(_COUNTS.unpack(bound.getsockopt(socket.SOL_SOCKET, _MEMINFO, _COUNTS.size))[-1])
    return 0


def program(places: Sequence[Place]) -> list[Instruction]:
    """What lets through packets from there, and nothing else."""
    instructions: list[Instruction] = []
    for network, port in places:
        start, mask = network.network_address.packed, network.netmask.packed
        tests = [
            (_LOAD, _IP_HEADER + offset, _word(mask, index), _word(start, index))
            for index, offset in enumerate(_SOURCE[network.version])
        ]
        if port is not None:
            tests.append((_LOAD_HALF, 0, _ALL, port))
        for number, (load, offset, bits, value) in enumerate(tests):
            beyond = 3 * (len(tests) - number - 1) + 1
            instructions += [(load, 0, 0, offset), (_AND, 0, 0, bits), (_JUMP_EQUAL, 0, beyond, value)]
        instructions.append((_RETURN, 0, 0, _ALL))
    return [*instructions, (_RETURN, 0, 0, 0)]


def _word(address: bytes, index: int) -> int:
    return int.from_bytes(address[4 * index : 4 * index + 4], "big")
