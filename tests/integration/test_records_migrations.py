"""The schema: made by the migrations as the models say, by several at once, and by a package that is installed."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from siaga_pbx.records.database import migrate, writer_engine
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.models import METADATA
from tests.records_databases import Database


def test_the_migrations_make_what_the_models_say(database: Database) -> None:
    migrate(database.url)
    engine = writer_engine(database.url, 1, "test")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


_HEAD = "0005"
_CONTRACT = {
    "call": "id sip_call_id trunk called caller_number identity_class callable language lat lon radius_m"
    " location_method received_at answered_at offered_at connected_at ended_at seat_id outcome ended_by sip_status"
    " reason priority disposition recording rtp_lost rtp_jitter_ms node rtp_mos recording_sha256 address",
    "event": "seq id at subject subject_id call_id kind data salt digest hash",
    "incident": "id call_id category note address lat lon people protected opened_at closed_at status"
    " radius_m location_method callers",
    "dispatch": "id incident_id agency sequence state message created_at published_at received_at accepted_at"
    " arrived_at cleared_at next_attempt_at attempts en_route_at rejected_at reason accept_by arrive_by",
}


def test_the_contract_s_columns(database: Database) -> None:
    migrate(database.url)
    engine = writer_engine(database.url, 1, "test")
    found = {table: [column["name"] for column in inspect(engine).get_columns(table)] for table in _CONTRACT}
    engine.dispose()
    assert found == {table: columns.split() for table, columns in _CONTRACT.items()}


def test_several_start_at_once(database: Database) -> None:
    url = database.url
    script = f"from siaga_pbx.records.database import migrate; migrate({url!r}, 30)"
    processes = [subprocess.Popen([sys.executable, "-W", "error", "-c", script]) for _ in range(3)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: migrate(url, 30), range(4)))
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert database.rows("SELECT version_num FROM alembic_version") == [(_HEAD,)]


def test_a_schema_of_a_later_version_is_left_alone(database: Database) -> None:
    migrate(database.url)
    database.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="schema 9999"):
        migrate(database.url)
    details: list[str] = []
    store = database.store(Hooks(on_alarm=lambda _, active, detail: details.append(detail)))
    store.open()
    store.close()
    assert "schema 9999" in details[0]
