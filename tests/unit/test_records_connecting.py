"""A connection that could not be checked and read is none: the next attempt begins anew."""

import os
from concurrent.futures import Future
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.engine import RootTransaction

from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.journal import Journal
from siaga_pbx.records.ledger import Ledger
from siaga_pbx.records.writer import Batch, Writer, WriterSettings
from tests.records_databases import SqliteFile
from tests.records_support import AT, event


def test_a_commit_in_doubt_is_told_though_the_first_look_at_it_failed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = SqliteFile(tmp_path / "siaga.db")
    settings = WriterSettings(database.url, retry_s=0.0)
    writer = Writer(settings, Journal(database.journal, 1000), Hooks(), lambda: AT, os.urandom)
    writer.start()
    commit = RootTransaction.commit

    def commit_and_break(transaction: RootTransaction) -> None:
        commit(transaction)
        broken.setattr(RootTransaction, "commit", commit)
        raise StoreUnavailable("the server is gone")

    def break_down(ledger: Ledger, connection: Connection) -> None:
        raise StoreUnavailable("the server is gone")

    waiting: Future[None] = Future()
    with monkeypatch.context() as broken:
        broken.setattr(RootTransaction, "commit", commit_and_break)
        broken.setattr(Ledger, "load", break_down)
        writer.take([Batch([event("dispatched")], waiting)])
    assert not waiting.done()
    assert writer.recover()
    assert waiting.done()
    assert waiting.result() is None
    writer.close()
