"""The daemon's one clock: monotonic seconds for the cores, UTC text for the record, and whether that time is true."""

import ctypes
import time

from siaga_pbx.records.times import utc_now

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class Clock:
    """Passed to whoever needs the time. A test passes one of its own."""

    def now(self) -> float:
        """Monotonic seconds: what the cores are given. Never steps, never runs backwards, means nothing by itself."""
        return time.monotonic()

    def utc(self) -> str:
        """The wall clock as the record holds it: `2026-11-24T00:00:00.000Z`."""
        return utc_now()

    def synchronised(self) -> bool:
        """Whether something (chrony, timesyncd, ntpd) disciplines the kernel's clock.

        The kernel itself takes it back when the error may have grown beyond 16 s. False too where it does not tell.
        """
        kernel = _Timex()
        try:
            state = ctypes.CDLL(None).adjtimex(ctypes.byref(kernel))
        except (OSError, AttributeError):  # a C library that has no adjtimex
            return False
        return state not in (-1, _TIME_ERROR) and not kernel.status & _STA_UNSYNC


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2); modes = 0 only reads."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_s", ctypes.c_long),
        ("time_us", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("counters", ctypes.c_long * 4),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )
