"""`siaga-pbx dispatches --format`: what a centre has on record, in the forms of other systems."""

import asyncio
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from siaga_pbx.commands.common import Selection
from siaga_pbx.commands.forms import Form
from siaga_pbx.commands.history import dispatches
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.order import Order
from tests.dispatch_centre import agency_at, centre_at, mosquitto, until, write_config
from tests.unit.test_dispatch_export import STRUCTURE, text_of, validate_cap


async def two_incidents(folder: Path) -> Path:
    """A fire that was accepted, and an accident with two agencies of which none is there. The configuration."""
    broker = mosquitto(folder)
    await broker.start()
    try:
        config = write_config(folder, broker.url)
        agency = agency_at(write_config(folder, broker.url, user="damkar"))
        async with centre_at(config) as centre, agency as station:
            place: dict[str, object] = {"lat": -6.7063, "lon": 108.557, "radius_m": 150.0, "location_method": "cell"}
            fire = Order(centre.call(**place), "fire", note="Rumah <terbakar> & pohon", address='Jl. "A" 1')
            (id,) = (await centre.dispatcher.dispatch(fire)).dispatch_ids
            await until(lambda: station.book.get(id))
            station.enter(id, State.ACCEPTED)
            await until(lambda: ("damkar", "accepted") in centre.told.states)
            await centre.dispatcher.dispatch(Order(centre.call(), "accident", protected=True))
            assert centre.store.flush()
        return config
    finally:
        await broker.stop()


def test_each_dispatch_is_a_cap_message_and_each_incident_an_eido(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = asyncio.run(asyncio.wait_for(two_incidents(tmp_path), 20))
    capsys.readouterr()

    assert dispatches(config, Selection(), Form.CAP) == 0
    messages = capsys.readouterr().out.splitlines()
    validate_cap(tmp_path, messages)
    assert [text_of(one, "cap:addresses") for one in messages] == ["damkar", "damkar", "psc119"]
    assert text_of(messages[0], "cap:info/cap:headline") == 'Kebakaran: Jl. "A" 1'
    assert text_of(messages[0], "cap:info/cap:description") == "Rumah <terbakar> & pohon"
    assert text_of(messages[0], "cap:info/cap:contact") == "+6281200000789"
    assert text_of(messages[1], "cap:info/cap:contact") is None

    assert dispatches(config, Selection(), Form.EIDO) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for document in documents:
        Draft202012Validator(STRUCTURE).validate(document)
    assert [len(document["dispatchComponent"]) for document in documents] == [1, 2]
    assert "damkar: accepted" in {note["notesActionComments"] for note in documents[0]["notesComponent"]}
    assert "callbackComponent" not in documents[1]
    agencies = {one["$id"]: one["agencyRoleDescriptionRegistryText"] for one in documents[1]["agencyComponent"]}
    assert set(agencies) == {"cirebon.siaga.local", "damkar.siaga.local", "psc119.siaga.local"}

    assert dispatches(config, Selection(limit=1), Form.CAP) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
