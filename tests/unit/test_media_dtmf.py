"""Telephone-events (RFC 4733): one key a press, whatever the network does to it."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.media.dtmf import KeyReader

Event = tuple[int, bytes]


def event(timestamp: int, code: int, duration: int, end: bool = False) -> Event:
    return timestamp & 0xFFFFFFFF, struct.pack("!BBH", code, end << 7 | 10, duration)


def press(timestamp: int, code: int, duration: int = 800) -> list[Event]:
    """As phones send it: a packet each 20 ms, the end three times."""
    steps = [event(timestamp, code, at) for at in range(160, duration + 1, 160)]
    return [*steps, *[event(timestamp, code, duration, end=True)] * 3]


def read(events: list[Event]) -> str:
    reader = KeyReader()
    return "".join(filter(None, (reader.read(*one) for one in events)))


def test_all_keys() -> None:
    assert read([e for code in range(17) for e in press(code * 4000, code)]) == "0123456789*#ABCDF"


def test_the_same_key_twice() -> None:
    assert read(press(1000, 1) + press(1000 + 800 + 480, 1)) == "11"


def test_the_same_key_twice_with_all_ends_lost() -> None:
    first, second = press(1000, 1)[:-3], press(1000 + 800 + 480, 1)[:-3]
    assert read(first + second) == "11"


def test_only_an_end_packet_came() -> None:
    assert read(press(1000, 5)[-1:]) == "5"


def test_late_packets_of_the_press_before() -> None:
    assert read([*press(1000, 1), *press(4000, 2)[:2], *press(1000, 1)[-2:], *press(4000, 2)[2:]]) == "12"


def test_a_long_press_goes_on_in_segments() -> None:
    """Section 2.5.1.3: past 65535 the next segment starts where the last one ended, with no end bit between."""
    first = [event(1000, 3, at) for at in (*range(160, 65535, 160), 65535)]
    second = [event(1000 + 65535, 3, at) for at in range(160, 2000, 160)]
    assert read(first + second + [event(1000 + 65535, 3, 2000, end=True)] * 3) == "3"


def test_a_sender_that_moves_the_timestamp_along() -> None:
    assert read([event(1000 + at, 7, at) for at in range(160, 1600, 160)]) == "7"


def test_around_the_timestamps_wrap() -> None:
    assert read(press(0xFFFFFF00, 1) + press(0xFFFFFF00 + 3000, 1)) == "11"


def test_what_is_no_key() -> None:
    assert read([event(1, 70, 100), (5, b"ab"), (6, b"")]) == ""


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 15), min_size=1, max_size=12),
    st.integers(0, 0xFFFFFFFF),
    st.data(),
)
def test_lost_and_repeated_packets_never_change_the_keys(keys: list[int], start: int, data: st.DataObject) -> None:
    """One packet of each press is enough; each that comes may come twice."""
    events: list[Event] = []
    for number, code in enumerate(keys):
        packets = press(start + number * 1600, code)
        kept = data.draw(st.sets(st.integers(0, len(packets) - 1), min_size=1))
        twice = data.draw(st.booleans())
        events += [packets[at] for at in sorted(kept) for _ in range(1 + twice)]
    assert read(events) == "".join("0123456789*#ABCD"[code] for code in keys)
