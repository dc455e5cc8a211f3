"""Where the caller is by now, in a later request of his call: through stack, switch and record."""

from collections.abc import Iterator

import pytest

from siaga_pbx.sip.sdp import Sdp
from tests.switch_bench import Centre, Phone
from tests.unit.test_call_civic import HOUSE, LINE
from tests.unit.test_call_location import multipart, pidf
from tests.unit.test_switch import talking

EXACT = pidf("<gs:Circle><gml:pos>-6.7321 108.5521</gml:pos><gs:radius>12</gs:radius></gs:Circle>")
AROUND = pidf(
    "<gs:Circle><gml:pos>-6.7300 108.5500</gml:pos><gs:radius>2000</gs:radius></gs:Circle>", "<method>Cell</method>"
)
FAR = pidf(
    "<gs:Circle><gml:pos>-6.9000 108.5500</gml:pos><gs:radius>2000</gs:radius></gs:Circle>", "<method>Cell</method>"
)


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


def update(caller: Phone, document: bytes) -> None:
    headers = (("Geolocation", "<cid:a@x>"), ("Content-Type", "application/pidf+xml"), ("Content-ID", "<a@x>"))
    request = caller.request("UPDATE", headers=headers)
    request.body = document
    caller.send(request)
    caller.bench.sent_response(200)


def place(centre: Centre) -> tuple[object, ...]:
    row = centre.row()
    return row["lat"], row["lon"], row["radius_m"], row["location_method"], row["address"]


def located(centre: Centre) -> int:
    return centre.kinds().count("located")


def test_an_update_says_where_the_caller_is_by_now(centre: Centre) -> None:
    caller, _ = talking(centre)
    assert place(centre) == (None, None, None, None, None)
    update(caller, AROUND)
    assert place(centre) == (-6.73, 108.55, 2000.0, "Cell", None)
    update(caller, EXACT)
    assert place(centre) == (-6.7321, 108.5521, 12.0, "GPS", None)
    assert located(centre) == 2
    (last,) = [one for one in centre.reader.events(call_id=str(centre.row()["id"])) if one["kind"] == "located"][1:]
    data = last["data"]
    assert isinstance(data, dict)
    assert (data["lat"], data["lon"], data["location_method"]) == (-6.7321, 108.5521, "GPS")
    assert centre.located == [centre.row()["id"]] * 2


def test_what_is_known_or_vaguer_is_no_news(centre: Centre) -> None:
    caller, _ = talking(centre)
    for document in (EXACT, EXACT, AROUND, b"<presence/>", b"no xml"):
        update(caller, document)
    assert place(centre) == (-6.7321, 108.5521, 12.0, "GPS", None)
    assert located(centre) == 1


def test_a_caller_who_moves_is_followed(centre: Centre) -> None:
    caller, _ = talking(centre)
    update(caller, EXACT)
    update(caller, FAR)
    assert place(centre) == (-6.9, 108.55, 2000.0, "Cell", None)


def test_an_address_is_kept_beside_the_place(centre: Centre) -> None:
    caller, _ = talking(centre)
    update(caller, EXACT)
    update(caller, pidf(HOUSE))
    assert place(centre) == (-6.7321, 108.5521, 12.0, "GPS", LINE)
    update(caller, AROUND)
    assert place(centre)[-1] == LINE


def test_a_re_invite_may_say_it_beside_its_sdp(centre: Centre) -> None:
    caller, _ = talking(centre)
    request = caller.request(
        "INVITE", headers=(("Content-Type", "multipart/mixed;boundary=b"), ("Geolocation", "<cid:a@x>"))
    )
    request.body = multipart(("a@x", EXACT)).replace(b"v=0\r\n", str(caller.audio).encode())
    caller.send(request)
    assert Sdp.parse(centre.sent_response(200).body)
    assert place(centre)[:2] == (-6.7321, 108.5521)


def test_the_seat_is_not_the_caller(centre: Centre) -> None:
    _, seat = talking(centre)
    headers = (("Content-Type", "application/pidf+xml"),)
    request = seat.request("UPDATE", headers=headers)
    request.body = EXACT
    seat.send(request)
    assert located(centre) == 0
