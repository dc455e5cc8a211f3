"""Preconditions on the quality of service (RFC 3312, RFC 4032): what the SDP of an IMS phone says of its radio bearer.

We have nothing to reserve: our side is always ready. What we owe the peer is to say so, and to ask that it tells us
when its own side is ready too, so that nobody is greeted who cannot hear yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_LINES = 16
"""Lines of one kind that are looked at: there are three sides, and one type of precondition that we know."""

_MIRRORED = {"local": "remote", "remote": "local", "e2e": "e2e"}
_TURNED = {"none": "none", "send": "recv", "recv": "send", "sendrecv": "sendrecv"}
_WAYS = {"none": frozenset[str](), "send": frozenset({"send"}), "recv": frozenset({"recv"})}
_WAYS["sendrecv"] = _WAYS["send"] | _WAYS["recv"]
_STRENGTHS = ("none", "optional", "mandatory")


@dataclass(frozen=True, slots=True)
class _Status:
    """`a=curr:qos local none`, `a=des:qos mandatory local sendrecv`; `strength` is "" in the former."""

    strength: str
    side: str
    way: str


def waits(lines: Sequence[tuple[str, str]]) -> bool:
    """Whether by the lines of a stream its sender still waits for resources that it cannot do without."""
    current = {status.side: _WAYS[status.way] for status in _statuses(lines, "curr")}
    return any(
        wish.strength == "mandatory" and not _WAYS[wish.way] <= current.get(wish.side, _WAYS["none"])
        for wish in _statuses(lines, "des")
        if wish.side != "remote"
    )


def answer_lines(lines: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What our answer says to the preconditions of an offered stream: nothing if there are none."""
    desired = list(_statuses(lines, "des"))
    if not desired:
        return []
    current = {status.side: status.way for status in _statuses(lines, "curr")}
    if any(wish.side == "e2e" for wish in desired):
        side = "e2e"
        ours = [f"curr:qos e2e {_TURNED[current.get('e2e', 'none')]}"]
    else:
        side = "remote"
        ours = ["curr:qos local sendrecv", f"curr:qos remote {_TURNED[current.get('local', 'none')]}"]
    ours += [f"des:qos {wish.strength} {_MIRRORED[wish.side]} {_TURNED[wish.way]}" for wish in desired]
    if waits(lines):
        ours.append(f"conf:qos {side} sendrecv")
    return [("a", line) for line in ours]


def _statuses(lines: Sequence[tuple[str, str]], kind: str) -> Iterator[_Status]:
    """The readable lines of one kind; a type other than qos is not ours to judge."""
    prefix = kind + ":"
    found = [value for letter, value in lines if letter == "a" and value.startswith(prefix)]
    for value in found[:MAX_LINES]:
        words = value[len(prefix) :].lower().split()
        strength = words.pop(1) if kind == "des" and len(words) == 4 else ""
        if len(words) != 3 or words[0] != "qos" or words[1] not in _MIRRORED or words[2] not in _TURNED:
            continue
        if kind == "curr" or strength in _STRENGTHS:
            yield _Status(strength, words[1], words[2])
