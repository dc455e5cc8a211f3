"""The journal: what it takes it gives back, whole and in order, whatever happened to its file."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.records.changes import Change, Delete, Erase, Event, Insert, Update, Upsert
from siaga_pbx.records.journal import Entry, Journal

# What a column can hold (see `plain`): the journal writes anything else as the database would.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
values = st.dictionaries(texts, st.none() | st.booleans() | st.integers(-9, 9) | texts, max_size=3)
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(Insert, texts, values),
    st.builds(Update, texts, texts, values),
    st.builds(Upsert, texts, values),
    st.builds(Delete, texts, texts),
    st.builds(Event, texts, texts, texts, st.none() | texts, texts, st.dictionaries(texts, values, max_size=2)),
    st.builds(Erase, texts),
)
entries = st.builds(Entry, texts, st.integers(1, 99), st.lists(changes, max_size=3))


def entry(number: int, kind: str = "step") -> Entry:
    return Entry("run", number, [Event("at", "system", "test", None, kind, {"number": number})])


def opened(path: Path, memory: int = 100) -> Journal:
    journal = Journal(path, memory)
    journal.open()
    return journal


def numbers(journal: Journal) -> Sequence[int]:
    return [entry.number for entry in journal.entries()]


@settings(max_examples=50)
@given(st.lists(st.lists(entries, max_size=4), max_size=4))
def test_what_it_takes_it_gives_back(tmp_path_factory: pytest.TempPathFactory, groups: list[list[Entry]]) -> None:
    path = tmp_path_factory.mktemp("journal") / "pending"
    for group in groups:
        journal = opened(path)
        journal.append(group)
        journal.close()
    journal = opened(path)
    assert list(journal.entries()) == [entry for group in groups for entry in group]
    assert journal.pending == sum(map(len, groups))
    journal.close()


def test_the_file_is_the_owner_s_alone_and_gone_when_cleared(tmp_path: Path) -> None:
    os.umask(0)
    journal = opened(tmp_path / "pending")
    assert not journal.path.exists()
    journal.append([entry(1)])
    assert journal.path.stat().st_mode & 0o777 == 0o600
    journal.clear()
    assert not journal.path.exists()
    assert journal.pending == 0
    journal.append([entry(2)])
    assert numbers(journal) == [2]
    journal.close()


def test_a_line_cut_off_by_a_crash_is_cut_away(tmp_path: Path) -> None:
    journal = opened(tmp_path / "pending")
    journal.append([entry(1), entry(2)])
    journal.close()
    for cut in range(1, 30):
        os.truncate(journal.path, journal.path.stat().st_size - cut)
        again = opened(journal.path)
        assert again.pending == 1
        again.append([entry(2)])
        assert numbers(again) == [1, 2]
        again.close()


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"{}\n", b"[]\n", b'["run",1,[["nonsense"]]]\n', b"\n"])
def test_a_damaged_line_is_an_event_and_the_others_stay(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "pending"
    journal = opened(path)
    journal.append([entry(1)])
    journal.close()
    with path.open("ab") as file:
        file.write(line)
    journal = opened(path)
    journal.append([entry(3)])
    first, damaged, last = journal.entries()
    assert (first.number, last.number) == (1, 3)
    (event,) = damaged.changes
    assert isinstance(event, Event)
    assert event.kind == "journal_line_damaged"
    assert [entry.run for entry in journal.entries()][1] == damaged.run, "the same line is the same run each time"
    journal.close()


def test_memory_takes_over_when_the_file_cannot_be_written_and_hands_back_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.write_text("a file where the folder should be")
    journal = Journal(folder / "pending", 100)
    journal.append([entry(1)])
    journal.append([entry(2)])
    assert (journal.pending, numbers(journal)) == (2, [1, 2])
    folder.unlink()
    journal.append([entry(3)])
    journal.close()
    assert numbers(opened(folder / "pending")) == [1, 2, 3]


def test_cleared_it_holds_nothing_in_memory_either(tmp_path: Path) -> None:
    (tmp_path / "gone").write_text("")
    journal = Journal(tmp_path / "gone" / "pending", 100)
    journal.append([entry(1)])
    (tmp_path / "gone").unlink()
    journal.clear()
    assert (journal.pending, numbers(journal)) == (0, [])


def test_the_memory_is_bounded_and_the_loss_counted(tmp_path: Path) -> None:
    (tmp_path / "gone").write_text("")
    journal = Journal(tmp_path / "gone" / "pending", 2)
    journal.append(entry(number) for number in (1, 2, 3))
    assert (numbers(journal), journal.lost) == ([1, 2], 1)
    journal.close()
    assert journal.lost == 3


def test_a_line_is_one_of_json(tmp_path: Path) -> None:
    journal = opened(tmp_path / "pending")
    journal.append([Entry("run", 7, [Insert("call", {"id": "1", "reason": "a\nb"}), Delete("outbox", "2")])])
    journal.close()
    (line,) = journal.path.read_text().splitlines()
    assert json.loads(line) == [
        "run",
        7,
        [["insert", "call", {"id": "1", "reason": "a\nb"}], ["delete", "outbox", "2"]],
    ]
