"""Where the caller is: shapes, cells, and every kind of rubbish."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.call.location import Location, locate
from siaga_pbx.sip.fields import Headers
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.uri import Uri

GML, GS = "http://www.opengis.net/gml", "http://www.opengis.net/pidflo/1.0"


def pidf(shape: str, method: str = "<method>GPS</method>") -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10"
  xmlns:gml="{GML}" xmlns:gs="{GS}" entity="pres:x@x"><tuple id="1"><status><gp:geopriv><gp:location-info>
  {shape}</gp:location-info>{method}</gp:geopriv></status></tuple></presence>""".encode()


POINT = '<gml:Point srsName="urn:ogc:def:crs:EPSG::4326"><gml:pos>-6.7320 108.5523</gml:pos></gml:Point>'
CIRCLE = (
    '<gs:Circle><gml:pos>-6.7 108.5</gml:pos><gs:radius uom="urn:ogc:def:uom:EPSG::9001">35.5</gs:radius></gs:Circle>'
)


def invite(*headers: tuple[str, str], body: bytes = b"") -> Request:
    return Request("INVITE", Uri.parse("sip:112@x"), Headers(headers), body)


def only(document: bytes, *headers: tuple[str, str]) -> Location | None:
    return locate(invite(("Content-Type", "application/pidf+xml"), *headers, body=document))


def multipart(*documents: tuple[str, bytes]) -> bytes:
    sdp = b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n"
    rest = (
        b"\r\n--b\r\nContent-Type: application/pidf+xml\r\nContent-ID: <" + cid.encode() + b">\r\n\r\n" + document
        for cid, document in documents
    )
    return sdp + b"".join(rest) + b"\r\n--b--\r\n"


MIXED = ("Content-Type", "multipart/mixed;boundary=b")


def test_a_point() -> None:
    assert only(pidf(POINT)) == Location(-6.732, 108.5523, None, "GPS", None)


def test_a_circle() -> None:
    assert only(pidf(CIRCLE, "")) == Location(-6.7, 108.5, 35.5, "pidf-lo", None)


def test_a_circle_in_kilometres() -> None:
    location = only(pidf(CIRCLE.replace("EPSG::9001", "EPSG::9036")))
    assert location is not None
    assert location.radius_m == 35_500


def test_an_ellipse_has_its_longer_axis_for_a_radius() -> None:
    axes = "<gs:semiMajorAxis>50</gs:semiMajorAxis><gs:semiMinorAxis>9</gs:semiMinorAxis>"
    assert only(pidf(f"<gs:Ellipse><gml:pos>1 2</gml:pos>{axes}</gs:Ellipse>")) == Location(1.0, 2.0, 50.0, "GPS", None)


CORNERS = ("-6.70 108.50", "-6.70 108.52", "-6.72 108.52", "-6.72 108.50", "-6.70 108.50")
RING = "<gml:exterior><gml:LinearRing>{}</gml:LinearRing></gml:exterior>"


@pytest.mark.parametrize(
    "ring",
    [
        "".join(f"<gml:pos>{corner}</gml:pos>" for corner in CORNERS),
        f"<gml:posList>{' '.join(CORNERS)}</gml:posList>",
        f'<gml:posList srsDimension="3">{" 12.5 ".join(CORNERS)} 12.5</gml:posList>',
    ],
)
def test_a_polygon_is_its_middle_and_its_farthest_corner(ring: str) -> None:
    location = only(pidf(f"<gml:Polygon>{RING.format(ring)}</gml:Polygon>"))
    assert location is not None
    assert [location.lat, location.lon] == pytest.approx([-6.71, 108.51])
    assert location.radius_m == pytest.approx(1567, abs=5)


@pytest.mark.parametrize(
    "ring", ["", "<gml:pos>1 1</gml:pos><gml:pos>1 2</gml:pos>", "<gml:posList>a b c</gml:posList>"]
)
def test_a_polygon_without_corners_is_no_place(ring: str) -> None:
    assert only(pidf(f"<gml:Polygon>{RING.format(ring)}</gml:Polygon>")) is None


def test_an_arc_is_its_centre_and_outer_radius() -> None:
    arc = (
        "<gs:ArcBand><gml:pos>-6.7 108.5</gml:pos><gs:innerRadius>500</gs:innerRadius><gs:outerRadius>2000"
        "</gs:outerRadius><gs:startAngle>20</gs:startAngle><gs:openingAngle>120</gs:openingAngle></gs:ArcBand>"
    )
    assert only(pidf(arc)) == Location(-6.7, 108.5, 2000, "GPS", None)


def test_a_height_is_ignored_and_a_comma_is_forgiven() -> None:
    assert only(pidf("<gml:Point><gml:pos>-6.7, 108.5 12.0</gml:pos></gml:Point>")) == Location(
        -6.7, 108.5, None, "GPS", None
    )


def test_geolocation_names_the_document() -> None:
    other = pidf("<gml:Point><gml:pos>1 2</gml:pos></gml:Point>")
    body = multipart(("other@x", other), ("mine@x", pidf(POINT)))
    location = locate(invite(MIXED, ("Geolocation", "<cid:mine@x>;inserted-by=ims.example"), body=body))
    assert location is not None
    assert location.lat == -6.732


def test_a_document_that_nobody_names_is_read_too() -> None:
    assert locate(invite(MIXED, body=multipart(("a@x", pidf(POINT))))) is not None


def test_a_document_that_cannot_be_read_gives_way_to_the_next() -> None:
    body = multipart(("bad@x", b"<presence"), ("good@x", pidf(POINT)))
    assert locate(invite(MIXED, ("Geolocation", "<cid:bad@x>"), body=body)) is not None


CELL = "3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=5101012345678901"


def test_a_cell_is_kept_as_it_is() -> None:
    assert locate(invite(("P-Access-Network-Info", CELL))) == Location(None, None, None, "cell", CELL)


def test_what_the_network_says_goes_before_what_the_phone_says() -> None:
    network = "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=51010999;network-provided"
    location = locate(invite(("P-Access-Network-Info", f"{CELL}, {network}")))
    assert location is not None
    assert location.cell == network


def test_an_access_with_no_cell_is_no_location() -> None:
    assert locate(invite(("P-Access-Network-Info", "IEEE-802.11; i-wlan-node-id=aabbcc"))) is None


def test_a_place_and_a_cell() -> None:
    location = only(pidf(POINT), ("P-Access-Network-Info", CELL))
    assert location == Location(-6.732, 108.5523, None, "GPS", CELL)


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + pidf("<gml:Point>&b;</gml:Point>")[39:]
EXTERNAL = b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + pidf(POINT)[39:]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff\xfe\x00",
        b"<presence",
        b"<a></b>",
        b'<?xml version="1.0" encoding="nothing-such"?><a/>',
        BOMB,
        EXTERNAL,
        b"<a>" * 9000,
        b"<a>" * 9000 + b"</a>" * 9000,
        pidf(""),
        pidf("<gml:Point/>"),
        pidf("<gml:Point><gml:pos/></gml:Point>"),
        pidf("<gml:Point><gml:pos>1</gml:pos></gml:Point>"),
        pidf("<gml:Point><gml:pos>north east</gml:pos></gml:Point>"),
        pidf("<gml:Point><gml:pos>nan 1</gml:pos></gml:Point>"),
        pidf("<gml:Point><gml:pos>1 inf</gml:pos></gml:Point>"),
        pidf("<gml:Point><gml:pos>91 1</gml:pos></gml:Point>"),
        pidf("<gml:Point><gml:pos>1 181</gml:pos></gml:Point>"),
    ],
)
def test_bad_xml_harms_nothing(document: bytes) -> None:
    assert only(document) is None
    assert only(document, ("P-Access-Network-Info", CELL)) == Location(None, None, None, "cell", CELL)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BILLION = f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]><x>&l9;</x>'.encode()


@pytest.mark.parametrize(
    "body",
    [
        BILLION,
        b"<gml>" * 12_000,
        pidf("<gml:Polygon><gml:posList>" + "1 2 " * 15_000 + "</gml:posList></gml:Polygon>"),
        multipart(("a", BILLION)),
        multipart(("a", pidf(POINT)))[:-200],
        b"--b" * 20_000,
        b"--b\r\n" * 10_000,
        b"--b\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n" * 1_000,
        b"--b\r\nContent-Type\r\n\r\n--b",
    ],
)
@pytest.mark.parametrize("kind", ["application/pidf+xml", "multipart/mixed;boundary=b", "multipart/mixed"])
def test_bombs_and_wrecks_cost_little(body: bytes, kind: str) -> None:
    begun = process_time()
    locate(invite(("Content-Type", kind), ("Geolocation", "<cid:a>"), body=body))
    assert process_time() - begun < 2


@pytest.mark.parametrize("radius", ["", "wide", "-1", "nan", "inf"])
def test_a_bad_radius_costs_the_radius_only(radius: str) -> None:
    location = only(pidf(CIRCLE.replace("35.5", radius)))
    assert location == Location(-6.7, 108.5, None, "GPS", None)


@pytest.mark.parametrize("value", ["<https://lis.example/1>", "<cid:", "cid:nowhere@x", "\x00", ",,,"])
def test_a_reference_that_leads_nowhere_harms_nothing(value: str) -> None:
    assert locate(invite(("Geolocation", value))) is None


def line(value: str) -> str:
    return value.replace("\n", "").replace("\r", "")


@given(st.binary(max_size=300), st.text(max_size=60).map(line), st.text(max_size=60).map(line))
def test_nothing_raises(body: bytes, geolocation: str, access: str) -> None:
    headers = (("Geolocation", geolocation), ("P-Access-Network-Info", access))
    for content_type in ("application/pidf+xml", "multipart/mixed;boundary=b"):
        locate(invite(("Content-Type", content_type), *headers, body=body))
        locate(invite(("Content-Type", content_type), *headers, body=multipart(("a", body))))
