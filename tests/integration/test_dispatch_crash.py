"""Daemon, broker and agency's end are killed at random while orders come in, and nothing is lost: real processes."""

from pathlib import Path

import pytest

from tests.dispatch_crash import Size, check, run


def test_whatever_is_killed_each_dispatch_is_there_once(tmp_path: Path) -> None:
    outcome = run(tmp_path, Size(dispatches=40, kills=9, pause_s=0.7, seed=7, pace=0.003))
    assert outcome.killed.total() == 9
    assert len(outcome.killed) == 3, "all three"
    check(outcome)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_thousand_dispatches_and_two_hundred_kills(tmp_path: Path, seed: int) -> None:
    outcome = run(tmp_path, Size(dispatches=1000, kills=200, pause_s=1.5, seed=seed))
    assert outcome.killed.total() == 200
    check(outcome)
