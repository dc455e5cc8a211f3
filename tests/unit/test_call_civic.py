"""Civic addresses (RFC 5139) as a line, beside a place on the map or instead of one; and which place is news."""

import pytest

from siaga_pbx.call.civic import MAX_ADDRESS
from siaga_pbx.call.location import Location, locate
from tests.unit.test_call_location import CIRCLE, MIXED, invite, multipart, only, pidf

CA = 'xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"'


def civic(elements: str) -> str:
    return f"<ca:civicAddress {CA}>{elements}</ca:civicAddress>"


HOUSE = civic(
    "<ca:country>ID</ca:country><ca:A1>Jawa Barat</ca:A1><ca:A2>Cirebon</ca:A2><ca:A3>Kesambi</ca:A3>"
    "<ca:STS>Jalan</ca:STS><ca:RD>Siliwangi</ca:RD><ca:HNO>12</ca:HNO><ca:HNS>B</ca:HNS><ca:FLR>3</ca:FLR>"
    "<ca:LMK>Pasar Pagi</ca:LMK><ca:PC>45134</ca:PC>"
)
LINE = "Pasar Pagi, lantai 3, Jalan Siliwangi No. 12B, Kesambi, Cirebon, Jawa Barat 45134"


def test_an_address_alone() -> None:
    assert only(pidf(HOUSE, "<method>DHCP</method>")) == Location(None, None, None, "DHCP", None, LINE)


def test_an_address_beside_a_place_wherever_it_stands() -> None:
    assert only(pidf(CIRCLE + HOUSE)) == Location(-6.7, 108.5, 35.5, "GPS", None, LINE)
    body = multipart(("a@x", pidf(HOUSE)), ("b@x", pidf(CIRCLE)))
    assert locate(invite(MIXED, ("Geolocation", "<cid:b@x>"), body=body)) == Location(
        -6.7, 108.5, 35.5, "GPS", None, LINE
    )


@pytest.mark.parametrize(
    ("elements", "line"),
    [
        ("<ca:A6>Jl. Sudirman</ca:A6><ca:HNO>1</ca:HNO>", "Jl. Sudirman No. 1"),
        ("<ca:RD>Jl. Sudirman</ca:RD><ca:A6>Kejaksan</ca:A6>", "Jl. Sudirman, Kejaksan"),
        ("<ca:RD> Jl.\n  Sudirman </ca:RD>", "Jl. Sudirman"),
        ("<ca:A3>Cirebon</ca:A3><ca:A2>Cirebon</ca:A2>", "Cirebon"),
        ("<ca:A1>Sabah</ca:A1><ca:country>my</ca:country>", "Sabah, MY"),
        ("<ca:NAM>RSUD</ca:NAM><ca:NAM>lain</ca:NAM>", "RSUD"),
        ("<ca:BLD>Menara</ca:BLD><ca:UNIT>7</ca:UNIT><ca:ROOM>2</ca:ROOM>", "Menara, unit 7, ruang 2"),
        ("<ca:unheard>of</ca:unheard><!-- and --><ca:PC>45134</ca:PC>", "45134"),
        ("<ca:country>ID</ca:country>", None),
        ("", None),
    ],
)
def test_a_line(elements: str, line: str | None) -> None:
    found = only(pidf(civic(elements)))
    assert (found.address if found else None) == line


def test_no_address_is_endless() -> None:
    found = only(
        pidf(civic("".join(f"<ca:A{n}>{'x' * 10_000}{n}</ca:A{n}>" for n in range(1, 6)) + "<ca:LOC>y</ca:LOC>"))
    )
    assert found is not None
    assert found.address is not None
    assert found.address.startswith("y, ")
    assert len(found.address) <= MAX_ADDRESS


@pytest.mark.parametrize(
    ("told", "before", "news"),
    [
        ((-6.7, 108.5, 30.0), (None, None, None), True),
        ((-6.7, 108.5, 30.0), (-6.7, 108.5, 30.0), False),
        ((-6.7, 108.5, 30.0), (-6.7, 108.5, 900.0), True),
        ((-6.7, 108.5, 900.0), (-6.7001, 108.5001, 30.0), False),  # the cell around the place
        ((-6.8, 108.5, 900.0), (-6.7, 108.5, 30.0), True),  # eleven kilometres away: the caller moves
        ((-6.7, 108.5, None), (-6.7001, 108.5, 30.0), False),  # nobody knows how exact: near enough
        ((-6.8, 108.5, None), (-6.7, 108.5, 30.0), True),
        ((-6.7, 108.5, 30.0), (-6.7, 108.5, None), True),
        ((None, None, None), (-6.7, 108.5, 30.0), False),
    ],
)
def test_what_is_news(
    told: tuple[float | None, ...], before: tuple[float | None, float | None, float | None], news: bool
) -> None:
    lat, lon, radius_m = told
    assert Location(lat, lon, radius_m, "GPS", None).improves(*before) is news
