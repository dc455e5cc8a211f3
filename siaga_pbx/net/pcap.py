"""Traced messages as a pcap file, for Wireshark and its like: each as one UDP datagram, whatever carried it.

The format is libpcap's (draft-ietf-opsawg-pcap), link type RAW: a packet begins with its IP header. A message that came
over a stream has no packet of its own; shown as a datagram it is read as SIP all the same.
"""

import struct
from collections.abc import Iterable
from ipaddress import ip_address

from siaga_pbx.net.trace import Traced
from siaga_pbx.sip.flow import Address

_MAGIC, _VERSION, _SNAPLEN, _LINKTYPE_RAW = 0xA1B2C3D4, (2, 4), 262144, 101
_UDP = 17
_MAX_PAYLOAD = 65535 - 48
"""What an IP packet's length field can still say."""


def pcap(messages: Iterable[Traced]) -> bytes:
    """The whole file."""
    head = struct.pack(">IHHiIII", _MAGIC, *_VERSION, 0, 0, _SNAPLEN, _LINKTYPE_RAW)
    return head + b"".join(_record(message) for message in messages)


def _record(message: Traced) -> bytes:
    source, target = (message.local, message.remote) if message.sent else (message.remote, message.local)
    packet = _packet(source, target, message.data[:_MAX_PAYLOAD])
    seconds, fraction = divmod(message.at, 1)
    return struct.pack(">IIII", int(seconds), int(fraction * 1e6), len(packet), len(packet)) + packet


def _packet(source: Address, target: Address, data: bytes) -> bytes:
    one, other = ip_address(source[0]), ip_address(target[0])
    udp_length = 8 + len(data)
    if one.version == 4 and other.version == 4:
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + udp_length, 0, 0, 64, _UDP, 0, one.packed, other.packed)
        head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
        checksum = 0  # none, as RFC 768 allows
    else:
        ends = _packed(one.packed) + _packed(other.packed)
        head = struct.pack(">IHBB", 6 << 28, udp_length, _UDP, 64) + ends
        pseudo = ends + struct.pack(">II", udp_length, _UDP)
        udp = struct.pack(">HHHH", source[1], target[1], udp_length, 0)
        checksum = _checksum(pseudo + udp + data) or 0xFFFF  # RFC 8200 8.1 wants one
    return head + struct.pack(">HHHH", source[1], target[1], udp_length, checksum) + data


def _packed(address: bytes) -> bytes:
    """An IPv6 address; an IPv4 one mapped into it."""
    return address if len(address) == 16 else b"\0" * 10 + b"\xff\xff" + address


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
