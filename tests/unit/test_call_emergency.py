"""The ids and the priority that a network gives an emergency call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.call.emergency import EmergencyIds, emergency_ids, priority_of
from siaga_pbx.sip.fields import Headers
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.uri import Uri

NAME = "01a20d5a-44f3-753d-86ef-09d9a04d25aa"
CALL = "urn:emergency:uid:callid:01a20d5a44f3753d86ef09d9a04d25aa:siaga.local"
INCIDENT = CALL.replace("callid", "incidentid")


def invite(*headers: tuple[str, str]) -> Request:
    return Request("INVITE", Uri.parse("sip:112@x"), Headers(headers))


def ids(*values: str) -> EmergencyIds:
    return emergency_ids(invite(*(("Call-Info", value) for value in values)), NAME, "siaga.local")


def test_ids_are_made_where_there_are_none() -> None:
    assert ids() == EmergencyIds(CALL, INCIDENT)


@pytest.mark.parametrize(
    "values",
    [
        ("<urn:emergency:uid:callid:abc:x.id>;purpose=emergency-CallId",),
        ("<http://x/y.png>;purpose=icon, <urn:emergency:uid:callid:abc:x.id>",),
        ("<http://x/y.png>", "<urn:emergency:uid:callid:abc:x.id> ;purpose=emergency-CallId"),
        ("<urn:emergency:uid:callid:abc:x.id>", "<urn:emergency:uid:callid:second:x.id>"),
    ],
)
def test_the_first_id_of_a_kind_is_kept(values: tuple[str, ...]) -> None:
    assert ids(*values) == EmergencyIds("urn:emergency:uid:callid:abc:x.id", INCIDENT)


def test_both_are_kept_in_the_older_form_too() -> None:
    found = ids("<urn:nena:uid:callid:abc:x.id>;purpose=nena-CallId", "<URN:nena:UID:incidentid:d:x.id>")
    assert found == EmergencyIds("urn:nena:uid:callid:abc:x.id", "URN:nena:UID:incidentid:d:x.id")


@pytest.mark.parametrize(
    "value", ["<urn:emergency:uid:callid:>", "urn:emergency:uid:other:a:b", f"<urn:emergency:uid:callid:{'a' * 300}>"]
)
def test_what_is_no_id_is_not_kept(value: str) -> None:
    assert ids(value) == EmergencyIds(CALL, INCIDENT)


def test_what_was_made_is_read_back() -> None:
    made = ids()
    assert emergency_ids(invite(*made.headers()), "another", "example.id") == made


@given(st.text(max_size=200).map(lambda text: text.replace("\r", "").replace("\n", "")))
def test_no_header_goes_out_that_cannot_be_read(value: str) -> None:
    found = ids(value, f"<urn:emergency:uid:callid:{value}>")
    Headers(found.headers())
    assert emergency_ids(invite(*found.headers()), "x", "y") == found


@pytest.mark.parametrize(
    ("values", "priority"),
    [
        ((), 0),
        (("esnet.0",), 0),
        (("esnet.1",), 0),
        (("esnet.2",), 1),
        (("ESNET.4",), 3),
        (("ets.0, esnet.3",), 2),
        (("esnet.1", "esnet.2"), 1),
        (("wps.4", "q735.0", "dsn.flash"), 0),
        (("esnet.5", "esnet.44", "esnet", "esnet.-1", ""), 0),
    ],
)
def test_priorities(values: tuple[str, ...], priority: int) -> None:
    assert priority_of(invite(*(("Resource-Priority", value) for value in values))) == priority
