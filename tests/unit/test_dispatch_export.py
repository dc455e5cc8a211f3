"""The exports: CAP 1.2 against its schema, EIDO against its published structure, and words that try to break out."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from defusedxml import ElementTree
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from siaga_pbx.dispatch import cap, eido
from siaga_pbx.dispatch.export import Origin, Sent
from siaga_pbx.dispatch.message import Callback, Dispatch, Kind, Location, Purpose
from siaga_pbx.records.reader import Record
from tests.unit.test_dispatch_message import DISPATCH, encoded

VECTORS = Path(__file__).parents[1] / "vectors"
STRUCTURE = json.loads((VECTORS / "eido" / "structure.json").read_text())
ORIGIN = Origin(
    "cirebon",
    "Cirebon Siaga 112",
    "siaga.example",
    {"fire": "Kebakaran", "accident": "Kecelakaan"},
    {"damkar": ("fire",), "psc119": ("health", "accident")},
)
MESSAGE = Dispatch.parse(encoded(DISPATCH))
CAP = {"cap": cap.NAMESPACE}
HOSTILE = "Jl. <b>A</b> & \"B\" ]]> ]]&gt; <!ENTITY x 'y'>\nbaris\r\ndua\x00\x0b\ufffe \U0001f525"


def sent(**change: object) -> Sent:
    message = MESSAGE.model_copy(update=change)
    row: Record = {"id": message.dispatch_id, "state": "accepted", "created_at": "2026-11-24T00:00:00.000Z"}
    return Sent(row, message)


def a_case(*dispatches: Sent, call: bool = True) -> eido.Case:
    incident: Record = {"id": MESSAGE.incident_id, "call_id": MESSAGE.call_id, "closed_at": None, "status": "open"}
    row: Record = {
        "id": MESSAGE.call_id,
        "received_at": "2026-11-24T00:00:00.000Z",
        "connected_at": "2026-11-24T00:00:04.000Z",
        "ended_at": None,
    }
    return eido.Case(incident, dispatches or (sent(),), row if call else None)


def validate_cap(folder: Path, documents: Iterable[str]) -> None:
    """With libxml2, against the schema of OASIS."""
    files = []
    for number, document in enumerate(documents):
        files.append(folder / f"{number}.xml")
        files[-1].write_text(document)
    schema = VECTORS / "cap" / "CAP-v1.2.xsd"
    command = ["xmllint", "--nonet", "--noout", "--schema", str(schema), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


VARIANTS: dict[str, dict[str, object]] = {
    "as it is": {},
    "update": {"type": Kind.UPDATE, "sequence": 3},
    "cancel": {"type": Kind.CANCEL, "sequence": 4},
    "exercise": {"status": Purpose.EXERCISE},
    "test": {"status": Purpose.TEST},
    "no location": {"location": None},
    "address alone": {"location": Location(address="Pasar Pagi")},
    "point alone": {"location": Location(lat=-6.7, lon=108.5)},
    "protected": {"protected": True, "callback": Callback(callable=False)},
    "nothing": {"callback": None, "location": None, "note": "", "people": None, "seat": None},
    "a category of its own": {"category": "flood"},
    "hostile": {"note": HOSTILE, "location": Location(address=HOSTILE), "seat": HOSTILE},
}


# --- CAP --------------------------------------------------------------------------------------------------------------


def test_every_cap_message_is_what_the_schema_of_oasis_says(tmp_path: Path) -> None:
    documents = [cap.alert(sent(**change), ORIGIN) for change in VARIANTS.values()]
    assert all("\n" not in document for document in documents)
    validate_cap(tmp_path, documents)


def test_the_schema_is_one_that_refuses(tmp_path: Path) -> None:
    document = cap.alert(sent(), ORIGIN)
    for wrong in (
        document.replace("<scope>Private</scope>", ""),
        document.replace("-00:00</sent>", "Z</sent>"),
        document.replace("<category>Fire<", "<category>Feuer<"),
    ):
        assert wrong != document
        with pytest.raises(AssertionError, match="fails to validate"):
            validate_cap(tmp_path, [wrong])


def text_of(document: str, path: str) -> str | None:
    return ElementTree.fromstring(document).findtext(path, namespaces=CAP)


def test_a_cap_message_says_what_the_dispatch_says() -> None:
    document = cap.alert(sent(), ORIGIN)
    assert text_of(document, "cap:identifier") == f"{MESSAGE.dispatch_id}.1"
    assert text_of(document, "cap:sender") == "cirebon@siaga.example"
    assert text_of(document, "cap:sent") == "2026-11-24T00:00:00-00:00"
    assert text_of(document, "cap:addresses") == "damkar"
    assert text_of(document, "cap:references") is None
    assert text_of(document, "cap:incidents") == MESSAGE.incident_id
    assert text_of(document, "cap:info/cap:category") == "Fire"
    assert text_of(document, "cap:info/cap:event") == "Kebakaran"
    assert text_of(document, "cap:info/cap:headline") == "Kebakaran: Jl. Siliwangi 1"
    assert text_of(document, "cap:info/cap:contact") == "+6281200000789"
    assert text_of(document, "cap:info/cap:area/cap:circle") == "-6.7,108 0.2"
    names = ElementTree.fromstring(document).findall("cap:info/cap:parameter/cap:valueName", CAP)
    assert "state" in [name.text for name in names]


def test_an_update_and_a_cancel_refer_to_the_first_message() -> None:
    document = cap.alert(sent(type=Kind.CANCEL, sequence=4), ORIGIN)
    first = f"cirebon@siaga.example,{MESSAGE.dispatch_id}.1,2026-11-24T00:00:00-00:00"
    assert text_of(document, "cap:references") == first
    assert text_of(document, "cap:info/cap:responseType") == "AllClear"
    assert text_of(document, "cap:info/cap:urgency") == "Past"


def test_a_protected_informant_is_in_no_export() -> None:
    protected = sent(protected=True, callback=Callback(callable=True, identity_class="subscriber"))
    assert text_of(cap.alert(protected, ORIGIN), "cap:info/cap:contact") is None
    text = json.dumps(eido.document(a_case(protected), ORIGIN))
    assert "tel:" not in text
    assert "callbackComponent" not in text
    assert "protected" in text


@settings(deadline=None, max_examples=150)
@given(words=st.text(max_size=200))
def test_whatever_was_said_comes_back_out_of_the_xml_as_it_was(words: str) -> None:
    """But for what XML cannot hold; carriage returns survive too."""
    message = sent(note=words, location=Location(address=words or None, lat=1.0, lon=2.0, radius_m=3.0))
    kept = "".join(one if one in "\t\n\r" or (one >= " " and one not in "\ufffe\uffff") else "\ufffd" for one in words)
    document = cap.alert(message, ORIGIN)
    assert (text_of(document, "cap:info/cap:description") or "") == kept
    location = eido.document(a_case(message), ORIGIN)["locationComponent"]
    assert isinstance(location, list)
    ElementTree.fromstring(location[0]["locationByValue"])


# --- EIDO -------------------------------------------------------------------------------------------------------------


def references(value: object) -> set[str]:
    """Every $ref in a document."""
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*(references(one) for one in value.values()))
    return set().union(*(references(one) for one in value)) if isinstance(value, list) else set()


def ids(value: object) -> list[str]:
    """Every $id in a document."""
    if isinstance(value, dict):
        own = [value["$id"]] if "$id" in value else []
        return own + [id for one in value.values() for id in ids(one)]
    return [id for one in value for id in ids(one)] if isinstance(value, list) else []


@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_eido_has_the_published_structure(variant: str, call: bool) -> None:
    second = sent(dispatch_id="019ab000-0000-7000-8000-000000000009", agency="psc119")
    document = eido.document(a_case(sent(**VARIANTS[variant]), second, call=call), ORIGIN)
    document = json.loads(json.dumps(document))
    Draft202012Validator(STRUCTURE, format_checker=FormatChecker()).validate(document)
    assert len(ids(document)) == len(set(ids(document))), "an id stands for one component"
    assert references(document) <= set(ids(document)), "every reference leads somewhere"


def test_the_structure_is_one_that_refuses() -> None:
    document = eido.document(a_case(), ORIGIN)
    assert not list(Draft202012Validator(STRUCTURE).iter_errors(document))
    for wrong in (
        document | {"eidoVersion": "2.0"},
        {name: value for name, value in document.items() if name != "agencyComponent"},
        document | {"incidentType": "fire"},
    ):
        assert list(Draft202012Validator(STRUCTURE).iter_errors(wrong))


def test_an_eido_says_what_the_incident_is() -> None:
    document = json.loads(json.dumps(eido.document(a_case(sent(note="<b>api</b>")), ORIGIN)))
    incident = document["incidentComponent"]
    assert (incident["incidentTypeCommonRegistryText"], incident["incidentTypeInternalText"]) == ("FUNK", "Kebakaran")
    assert (incident["incidentStatusCommonRegistryText"], incident["internalIncidentId"]) == (
        ["Active"],
        MESSAGE.incident_id,
    )
    assert document["$id"].startswith("urn:emergency:uid:incidentid:")
    assert document["issuingElementIdentification"] == "cirebon.siaga.example"
    assert document["callbackComponent"][0]["callBackInformationUri"] == ["tel:+6281200000789"]
    assert document["notesComponent"][0]["notesActionComments"].startswith("&lt;b&gt;api&lt;/b&gt;; where: Jl.")
    assert document["notesComponent"][1]["notesActionComments"] == "damkar: accepted"
    location = ElementTree.fromstring(document["locationComponent"][0]["locationByValue"])
    gml = {"gml": "http://www.opengis.net/gml", "gs": "http://www.opengis.net/pidflo/1.0"}
    assert location.findtext(".//gs:Circle/gml:pos", namespaces=gml) == "-6.7 108.0"
    assert location.findtext(".//gs:radius", namespaces=gml) == "200.0"
