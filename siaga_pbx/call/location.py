"""Where the caller is, if the network says so. Whatever is wrong with it costs no more than the location.

A PIDF-LO in the body (RFC 6442, RFC 4119) is a place on the map (shapes of RFC 5491), an address (RFC 5139), or both;
the cell of P-Access-Network-Info (RFC 7315) is kept as text, for people who can look it up. A location by https:
reference is not fetched here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, hypot, isfinite, radians
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from siaga_pbx.call.civic import read_civic
from siaga_pbx.sip.body import parts
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.params import parse_params

PIDF = "application/pidf+xml"
CELL = "cell"
MAX_METHOD = 40
"""Characters of a method token that are kept: the registered ones (RFC 4119 and IANA) have at most 20."""

MAX_CORNERS = 100
"""Corners of a polygon that are read; RFC 5491 5.2.2 allows 15."""
METRES_A_DEGREE = 111_195.0
"""Of latitude, on a sphere of the earth's mean radius."""

_SHAPES = ("Point", "Circle", "Sphere", "Ellipse", "Ellipsoid", "ArcBand", "Polygon")
_RADII = ("radius", "semiMajorAxis", "outerRadius")
_CELL_PARAMS = ("utran-cell-id-3gpp", "cgi-3gpp", "eutran-cell-id-3gpp", "nr-cell-id-3gpp", "cell-id")
_KILOMETRES = ("km", "urn:ogc:def:uom:EPSG::9036")


@dataclass(frozen=True, slots=True)
class Location:
    """WGS 84 degrees and metres, None where only the cell or an address is known.

    `method`: how it was found (GPS, Cell, ... as the network wrote it; "cell" when the cell is all). `cell`: the raw
    P-Access-Network-Info. `address`: one line, as the network has it, which may be the subscriber's and not the
    caller's.
    """

    lat: float | None
    lon: float | None
    radius_m: float | None
    method: str
    cell: str | None
    address: str | None = None

    def improves(self, lat: float | None, lon: float | None, radius_m: float | None) -> bool:
        """Whether its place is to be believed rather than one that was told before.

        A vaguer circle around that place says nothing new; one elsewhere says that the caller has moved.
        """
        if self.lat is None or self.lon is None or (self.lat, self.lon, self.radius_m) == (lat, lon, radius_m):
            return False
        if lat is None or lon is None or radius_m is None:
            return True
        if self.radius_m is not None and self.radius_m <= radius_m:
            return True
        return _metres(self.lat - lat, self.lon - lon, lat) > (self.radius_m or radius_m)


@dataclass(frozen=True, slots=True)
class _Place:
    lat: float
    lon: float
    radius_m: float | None
    method: str


def locate(request: Request) -> Location | None:
    """The caller's location of an INVITE or UPDATE; None if there is none that can be read. Never raises."""
    cell = _cell(request)
    documents = list(_documents(request))
    place = next((place for document in documents if (place := _read(document)) is not None), None)
    address = next((line for document in documents if (line := _address(document)) is not None), None)
    if place is not None:
        return Location(place.lat, place.lon, place.radius_m, place.method, cell, address)
    if address is not None:
        return Location(None, None, None, next(map(_method, documents)), cell, address)
    return None if cell is None else Location(None, None, None, CELL, cell)


def _cell(request: Request) -> str | None:
    """The value that names a cell; what the network put there goes before what the phone did (RFC 7315 5.4)."""
    named = [value for value in request.headers.values("p-access-network-info") if _params(value) & set(_CELL_PARAMS)]
    provided = [value for value in named if {"network-provided", "np"} & _params(value)]
    return next(iter([*provided, *named]), None)


def _params(value: str) -> set[str]:
    return {name.lower() for name, _ in parse_params(value.partition(";")[2])}


def _documents(request: Request) -> Iterator[Element]:
    """Every PIDF-LO, those that Geolocation names by cid: first.

    DTDs and entities are refused: no document of a network needs them.
    """
    named = set(_cids(request))
    documents = [part for part in parts(request) if part.content_type == PIDF]
    for part in sorted(documents, key=lambda part: part.content_id not in named):
        try:
            yield fromstring(part.body, forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError, LookupError):
            continue


def _method(root: Element) -> str:
    return (_text(root, "method") or "pidf-lo")[:MAX_METHOD]


def _address(root: Element) -> str | None:
    lines = map(read_civic, _named(root, "civicAddress"))
    return next((line for line in lines if line is not None), None)


def _cids(request: Request) -> Iterator[str]:
    for value in request.headers.values("geolocation"):
        try:
            uri = NameAddr.parse(value).uri
        except RemoteError:
            continue
        if uri.scheme == "cid" and uri.opaque:
            yield uri.opaque


def _read(root: Element) -> _Place | None:
    """The first shape of a document."""
    method = _method(root)
    for shape in _named(root, *_SHAPES):
        if shape.tag.rpartition("}")[2] == "Polygon":
            place = _polygon(shape, method)
            if place is not None:
                return place
            continue
        position = _position(_text(shape, "pos"))
        if position is not None:
            return _Place(*position, _radius(shape), method)
    return None


def _polygon(shape: Element, method: str) -> _Place | None:
    """The middle of the corners, and how far the farthest is: within some metres for the size of a cell."""
    words = " ".join(element.text or "" for element in _named(shape, "pos", "posList")).replace(",", " ").split()
    step = 3 if next((e.get("srsDimension") for e in shape.iter() if e.get("srsDimension")), "2") == "3" else 2
    words = words[: step * MAX_CORNERS]
    corners = [corner for at in range(0, len(words) - 1, step) if (corner := _position(f"{words[at]} {words[at + 1]}"))]
    if len(corners) < 3:
        return None
    if corners[0] == corners[-1]:
        corners.pop()  # a ring ends where it began
    lat = sum(corner[0] for corner in corners) / len(corners)
    lon = sum(corner[1] for corner in corners) / len(corners)
    radius = max(_metres(at[0] - lat, at[1] - lon, lat) for at in corners)
    return _Place(lat, lon, round(radius, 1), method)


def _metres(north: float, east: float, lat: float) -> float:
    """So many degrees, near that latitude."""
    return hypot(north, east * cos(radians(lat))) * METRES_A_DEGREE


def _position(text: str | None) -> tuple[float, float] | None:
    """Latitude and longitude in the order of EPSG 4326; a height behind them is of no use here."""
    numbers = [_number(word) for word in (text or "").replace(",", " ").split()]
    if len(numbers) < 2 or numbers[0] is None or numbers[1] is None:
        return None
    lat, lon = numbers[0], numbers[1]
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None


def _radius(shape: Element) -> float | None:
    for element in _named(shape, *_RADII):
        radius = _number((element.text or "").strip())
        if radius is not None and radius >= 0:
            return radius * 1000 if element.get("uom") in _KILOMETRES else radius
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _named(root: Element, *names: str) -> Iterator[Element]:
    """Elements by local name: the namespaces in the field are not always those of the RFCs."""
    return (
        element for element in root.iter() if isinstance(element.tag, str) and element.tag.rpartition("}")[2] in names
    )


def _text(root: Element, name: str) -> str | None:
    return next((element.text.strip() for element in _named(root, name) if element.text and element.text.strip()), None)
