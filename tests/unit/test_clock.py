"""clock: monotonic seconds, UTC text, and whether the kernel calls its clock true."""

import ctypes
import re
import time
from typing import Any

import pytest

from siaga_pbx.clock import Clock, _Timex


def test_now_is_monotonic_and_utc_is_text() -> None:
    clock = Clock()
    before = clock.now()
    assert clock.now() >= before
    assert abs(before - time.monotonic()) < 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", clock.utc())


def test_the_kernel_writes_no_more_than_the_structure_holds() -> None:
    assert ctypes.sizeof(_Timex) == {8: 208, 4: 128}[ctypes.sizeof(ctypes.c_long)]


@pytest.mark.parametrize(
    ("state", "status", "synchronised"),
    [
        (0, 0x0001, True),
        (1, 0x2001, True),  # a leap second comes
        (5, 0x0040, False),  # never set
        (0, 0x0040, False),
        (5, 0x0000, False),
        (-1, 0x0000, False),  # not permitted to ask
    ],
)
def test_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch, state: int, status: int, synchronised: bool) -> None:
    class Library:
        @staticmethod
        def adjtimex(argument: Any) -> int:
            kernel = argument._obj
            assert kernel.modes == 0  # only reads
            kernel.status = status
            return state

    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Library)
    assert Clock().synchronised() is synchronised


def test_a_library_without_the_call_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert Clock().synchronised() is False


def test_the_real_kernel_answers() -> None:
    kernel = _Timex()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(kernel))
    assert state in range(6)
    assert kernel.tick in range(9_000, 11_001)  # microseconds a tick: the fields are where the kernel puts them
    assert Clock().synchronised() is (state != 5 and not kernel.status & 0x40)
