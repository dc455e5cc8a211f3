"""The file of the live calls: what stands in it after a death at any byte, and what a file system that fails costs."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx import livefile
from siaga_pbx.livefile import LiveFile, LiveFileInUse
from tests.switch_bench import drop as killed

keys = st.sampled_from(["a", "b", "c", "0190-x"])
values = st.binary(max_size=40).filter(lambda value: b"\n" not in value)
changes = st.lists(st.dictionaries(keys, st.none() | values, max_size=3), max_size=12)


class Faults(list[tuple[bool, str]]):
    def __call__(self, failing: bool, reason: str) -> None:
        self.append((failing, reason))


@contextmanager
def opened(path: Path) -> Iterator[LiveFile]:
    file = LiveFile(path, Faults())
    file.open()
    try:
        yield file
    finally:
        file.close()


@given(changes)
def test_entries_are_there_after_a_kill(
    tmp_path_factory: pytest.TempPathFactory, history: list[dict[str, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("live") / "calls"
    file = LiveFile(path, Faults())
    assert file.open() is None
    for change in history:
        file.write(change)
    killed(file)
    with opened(path) as again:
        assert again.entries == file.entries


@given(changes, st.data())
def test_file_that_is_cut_off_anywhere_has_what_was_written_before(
    tmp_path_factory: pytest.TempPathFactory, history: list[dict[str, bytes]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("live") / "calls"
    file = LiveFile(path, Faults())
    file.open()
    stood: list[tuple[int, dict[str, bytes]]] = [(path.stat().st_size, {})]
    for change in history:
        file.write(change)
        stood.append((path.stat().st_size, dict(file.entries)))
    killed(file)
    cut = data.draw(st.integers(stood[0][0], path.stat().st_size))
    os.truncate(path, cut)
    with opened(path) as again:
        whole = [entries for size, entries in stood if size <= cut]
        lines = path.read_bytes()
        assert lines.endswith(b"\n")
        if any(size == cut for size, _ in stood):
            assert again.entries == whole[-1]


@given(st.binary(max_size=300))
def test_garbled_file_harms_nothing(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("live") / "calls"
    path.write_bytes(garbage)
    with opened(path) as file:
        file.write({"a": b"1"})
        killed(file)
    with opened(path) as again:
        assert again.entries["a"] == b"1"


def test_file_of_another_boot_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    path.write_bytes(b"#boot 11111111-0000-0000-0000-000000000000\n+a 1\n")
    with opened(path) as file:
        assert file.entries == {}


def test_one_daemon_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path / "calls"), pytest.raises(LiveFileInUse, match="another daemon"):
        LiveFile(tmp_path / "calls", Faults()).open()


def test_file_does_not_grow_with_the_calls_that_were(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    with opened(path) as file:
        file.write({"stays": b"x" * 1000})
        for number in range(3000):
            file.write({str(number): b"y" * 1000})
            file.write({str(number): None})
        assert path.stat().st_size <= livefile.MIN_REWRITE + 2000
        killed(file)
    with opened(path) as again:
        assert again.entries == {"stays": b"x" * 1000}


def test_nothing_is_left_of_a_daemon_that_has_no_calls(tmp_path: Path) -> None:
    with opened(tmp_path / "calls") as file:
        file.write({"a": b"1"})
        file.write({"a": None})
    assert not (tmp_path / "calls").exists()


def test_the_next_daemon_sees_when_the_last_one_lived(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    with opened(path) as file:
        file.write({"a": b"1"})
        os.utime(path, (1000, 1000))
        file.beat()
        killed(file)
    again = LiveFile(path, Faults())
    assert again.open() == pytest.approx(time(), abs=10)
    again.close()


def test_unchanged_entry_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    with opened(path) as file:
        file.write({"a": b"1"})
        size = path.stat().st_size
        file.write({"a": b"1", "unknown": None})
        assert path.stat().st_size == size


def test_full_disk_is_told_and_made_good(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for it: a write that goes over it comes back short, then fails (EFBIG)."""
    path, faults = tmp_path / "calls", Faults()
    file = LiveFile(path, faults)
    file.open()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        file.write({"a": b"1" * 100})
        file.write({"b": b"2"})
        file.beat()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [failing for failing, _ in faults] == [False, True, True]
    file.write({"c": b"3"})
    file.beat()
    assert faults[-1] == (False, "")
    killed(file)
    with opened(path) as again:
        assert again.entries == {"a": b"1" * 100, "b": b"2", "c": b"3"}


def test_folder_that_cannot_be_written_costs_the_take_over_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    faults = Faults()
    file = LiveFile(tmp_path / "file" / "calls", faults)
    assert file.open() is None
    file.write({"a": b"1"})
    file.beat()
    file.close()
    assert faults[0][0] is True
