"""The sections of the configuration files, as frozen models. Each description says what its key accepts."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from phonenumbers import SUPPORTED_REGIONS
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.flow import DEFAULT_PORTS
from siaga_pbx.sip.uri import Uri


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Listen(NamedTuple):
    """Where a socket is bound. Port 0 takes any free port."""

    transport: str
    host: str
    port: int


def _listen(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = urlsplit(value)
    if parts.scheme not in DEFAULT_PORTS or parts.hostname is None or parts.port is None or parts.path:
        raise ValueError(value)
    return Listen(parts.scheme, str(ip_address(parts.hostname)), parts.port)


def _name_server(value: object) -> object:
    """ADDRESS or ADDRESS:PORT."""
    if not isinstance(value, str) or value == "":
        return None if value == "" else value
    parts = urlsplit(f"//{value}" if value.count(":") < 2 or "[" in value else f"//[{value}]")
    if parts.hostname is None or parts.path:
        raise ValueError(value)
    return str(ip_address(parts.hostname)), parts.port or 53


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or value != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(value)
    return value


def _host_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", value.lower()):
        raise ValueError(value)
    return value.lower()


def _http_listen(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = urlsplit(f"//{value}")
    if parts.hostname is None or parts.port is None or not _is_loopback(parts.hostname):
        raise ValueError(value)
    return Listen("http", str(ip_address(parts.hostname)), parts.port)


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(value) from error
    return value


def _country(value: str) -> str:
    if value not in SUPPORTED_REGIONS:
        raise ValueError(value)
    return value


def _network(value: object) -> object:
    return ip_network(value) if isinstance(value, str) else value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _escalation(step: str) -> str:
    if not re.fullmatch(r"resend|alarm|agency:[a-z0-9_-]{1,32}|call:(sips?|tel):\S+", step):
        raise ValueError(step)
    kind, _, target = step.partition(":")
    if kind == "call":
        _dialable(target)
    return step


def _dialable(value: str) -> str:
    """What calls are made to must be readable when the file is, not when somebody waits."""
    try:
        uri = Uri.parse(value)
    except RemoteError as error:
        raise ValueError(value) from error
    if uri.scheme not in ("sip", "sips", "tel") or uri.opaque is not None:
        raise ValueError(value)
    return value


def _hop(value: str) -> str:
    if Uri.parse(_dialable(value)).scheme == "tel":
        raise ValueError(value)
    return value


def _database(value: str) -> str:
    """Never shows the value in what it raises: it may hold a password."""
    parts = urlsplit(value)
    name = parts.path.removeprefix("/")
    file = parts.scheme == "sqlite" and value.startswith("sqlite:///") and name
    server = parts.scheme == "postgresql" and name and "/" not in name and parts.netloc.count("@") < 2
    if not file and not (server and parts.port != 0):
        raise ValueError("no database")
    return value


Id = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$", description="1 to 32 of a-z 0-9 _ -")]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_empty)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
SipTarget = Annotated[str, AfterValidator(_dialable)]
SipHop = Annotated[str, AfterValidator(_hop)]
Algorithms = Annotated[tuple[Literal["md5", "sha-256"], ...], Field(min_length=1)]
Srtp = Literal["off", "offered", "required"]
_SRTP = '"off", "offered" or "required", at seats that register over tls:// or wss://'
_ADVERTISE = "an IP address that the peer reaches us at"
_ALGORITHMS = '["md5"], ["md5", "sha-256"] or ["sha-256"]'
_SECONDS = "seconds, more than 0 and at most 86400"


class Centre(Section):
    id: Id
    name: Text = Field("Siaga 112", description="the centre's name, up to 200 characters")
    timezone: Annotated[str, AfterValidator(_timezone)] = Field("Asia/Jakarta", description="a name of the tz database")
    country: Annotated[str, AfterValidator(_country)] = Field("ID", description="an ISO 3166 code such as ID")
    dialplan: Path = Field(description='the path of the dialplan, such as "../dialplans/cirebon.toml"')


class Sip(Section):
    listen: Annotated[tuple[Annotated[Listen, BeforeValidator(_listen)], ...], Field(min_length=1)] = Field(
        description="a list of udp://ADDRESS:PORT, or tcp://, tls://, ws://, wss:// (an IPv6 address in brackets)"
    )
    domain: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")] = Field(
        description="the realm that seats register in, such as siaga.local"
    )
    digest: Algorithms = Field(("md5",), description=_ALGORITHMS)
    advertise: Annotated[OptionalText, Field(description=_ADVERTISE)] = None
    certificate: OptionalPath = Field(None, description="the path of a PEM certificate chain")
    key: OptionalPath = Field(None, description="the path of the certificate's PEM key")
    ca: OptionalPath = Field(None, description="the path of PEM certificates of authorities that vouch for trunks")
    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        (), description='a list of web origins, such as ["https://meja.example"]'
    )
    resolver: Annotated[tuple[str, int] | None, BeforeValidator(_name_server)] = Field(
        None, description="ADDRESS or ADDRESS:PORT of a name server"
    )
    srtp: Srtp = Field("off", description=_SRTP)
    keep_alive_s: float = Field(
        25.0, ge=1, le=3600, description="seconds, 1 to 3600, fewer than a NAT remembers a silent phone"
    )


class Mark(Section):
    """A header that tells a caller's class on this trunk; which one a carrier sends is found while commissioning it."""

    header: Text = Field(description="the name of a SIP header")
    contains: Text = Field(description="the text to look for in that header, any letter case")
    class_: Literal["no_credit", "no_sim", "withheld", "subscriber"] = Field(
        alias="class", description="no_credit, no_sim, withheld or subscriber"
    )


class Trunk(Section):
    id: Id
    addresses: tuple[Network, ...] = Field(
        (), description="a list of IP addresses or networks, with no host bits set; or give certificate_names"
    )
    certificate_names: tuple[Annotated[str, AfterValidator(_host_name)], ...] = Field(
        (), description='a list of host names in the trunk\'s certificate, such as ["sbc.carrier.example"]'
    )
    media_addresses: tuple[Network, ...] = Field((), description="a list of IP addresses or networks")
    number_from: tuple[
        Literal["p-asserted-identity", "from", "remote-party-id", "p-preferred-identity", "diversion"], ...
    ] = Field(
        ("p-asserted-identity", "from"),
        description="a list of p-asserted-identity, from, remote-party-id, p-preferred-identity, diversion",
    )
    health_uri: Annotated[SipHop | None, BeforeValidator(_none_if_empty)] = Field(
        None, description="a sip: URI that answers OPTIONS"
    )
    marks: tuple[Mark, ...] = Field((), description='a list of { header = "...", contains = "...", class = "..." }')
    advertise: Annotated[OptionalText, Field(description=_ADVERTISE)] = None
    listen: Annotated[Listen | None, BeforeValidator(_listen)] = Field(
        None, description="udp://, tcp:// or tls:// ADDRESS:PORT"
    )
    outbound: Annotated[SipHop | None, BeforeValidator(_none_if_empty)] = Field(
        None, description="a sip: URI that outgoing calls are sent to"
    )
    username: OptionalText = Field(None, description="the name for the carrier's digest challenge")
    password: OptionalText = Field(None, description="the password for the carrier's digest challenge", repr=False)
    register_: Literal[False] = Field(
        False, alias="register", description="false; registering at a carrier comes with a later version"
    )
    from_number: OptionalText = Field(None, description="the centre's number on this trunk, such as +62231112")


class Media(Section):
    address: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("127.0.0.1",), description="a list of IP addresses to bind"
    )
    ports: tuple[int, int] = Field(
        (30000, 31999), description="[first, last], first even, between 1024 and 65535, at least 8 ports"
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(1, description="1 to 64")
    prompts: OptionalPath = Field(None, description="a folder of WAV files, 8 kHz mono 16-bit; empty: the shipped ones")
    record: bool = Field(True, description="true or false")
    socket: OptionalPath = Field(None, description="the path of the workers' UNIX socket")

    @model_validator(mode="after")
    def _ports_in_order(self) -> "Media":
        first, last = self.ports
        if not (first >= 1024 and first % 2 == 0 and first + 7 <= last <= 65535):
            raise ValueError(f"ports = [first, last], first even, between 1024 and 65535, at least 8; not {self.ports}")
        for address in self.address:
            ip_address(address)
        return self


class QueueSettings(Section):
    ring_s: Seconds = Field(12.0, description=_SECONDS)
    rest_s: Seconds = Field(20.0, description=_SECONDS)
    wrap_up_s: Annotated[float, Field(ge=0, le=86_400)] = Field(10.0, description="seconds, 0 to 86400")
    widen_s: Seconds = Field(30.0, description=_SECONDS)
    overflow_s: Seconds = Field(60.0, description=_SECONDS)
    overflow: Annotated[SipTarget | None, BeforeValidator(_none_if_empty)] = Field(
        None, description="a sip: or tel: URI of another centre or a duty mobile"
    )
    announce_every_s: Annotated[float, Field(ge=0, le=3600)] = Field(30.0, description="seconds, 0 to 3600; 0: never")
    answer: Literal["at-once", "by-seat"] = Field("at-once", description='"at-once" or "by-seat"')


class Seat(Section):
    id: Id
    name: Text | None = Field(None, description="the seat's name, up to 200 characters")
    password: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description='the seat\'s SIP password, best as { file = "..." } or { env = "..." }', repr=False
    )
    skills: frozenset[str] = Field(frozenset(), description='a list of skills, such as ["id", "jv"]')
    digest: Algorithms | None = Field(None, description=_ALGORITHMS)
    srtp: Srtp | None = Field(None, description=_SRTP)


class Records(Section):
    database: Annotated[str, AfterValidator(_database)] = Field(
        description="sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME (?host=FOLDER for a UNIX socket);"
        ' with a password best as { file = "..." } or { env = "..." }',
        repr=False,
    )
    recordings: Path = Field(Path("recordings"), description="a folder")
    keep_calls_days: Annotated[int, Field(ge=1, le=36_500)] = Field(
        description="days, 1 to 36500; required, a legal choice"
    )
    keep_recordings_days: Annotated[int, Field(ge=1, le=36_500)] = Field(
        description="days, 1 to 36500; required, a legal choice"
    )


class Mqtt(Section):
    broker: str = Field(description='mqtt://HOST:PORT, mqtts://HOST:PORT or "embedded"')
    username: OptionalText = Field(None, description="text")
    password: OptionalText = Field(None, description="text", repr=False)
    ca: OptionalPath = Field(None, description="the path of a PEM file")
    certificate: OptionalPath = Field(None, description="the path of a PEM file")
    key: OptionalPath = Field(None, description="the path of a PEM file")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_/.-]{1,100}$")] = Field(
        "siaga", description="the first levels of every topic, with no + or #"
    )
    insecure: bool = Field(False, description="true or false")

    @model_validator(mode="before")
    @classmethod
    def _broker(cls, data: Any) -> Any:
        """An unencrypted broker beyond loopback would send callers' data in clear text: said openly or refused."""
        if not isinstance(data, dict) or not isinstance(broker := data.get("broker"), str) or broker == "embedded":
            return data
        parts = urlsplit(broker)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError(f'broker = mqtt://HOST:PORT, mqtts://HOST:PORT or "embedded", not {broker!r}')
        if parts.scheme == "mqtt" and not _is_loopback(parts.hostname) and not data.get("insecure"):
            raise ValueError(f"mqtts:// for a broker beyond loopback ({parts.hostname}), or insecure = true")
        return data


class Agency(Section):
    id: Id
    name: Text = Field("", description="the agency's name", min_length=0)
    categories: tuple[str, ...] = Field((), description="a list of category ids of the dialplan")
    accept_within_s: Seconds = Field(60.0, description=_SECONDS)
    arrive_within_s: Seconds = Field(900.0, description=_SECONDS)
    escalate: tuple[Annotated[str, AfterValidator(_escalation)], ...] = Field(
        ("resend", "alarm"), description='a list of "resend", "agency:ID", "call:sip:...", "alarm"'
    )


class Http(Section):
    listen: Annotated[Listen, BeforeValidator(_http_listen)] = Field(
        Listen("http", "127.0.0.1", 8112), description="a loopback ADDRESS:PORT; from elsewhere by a proxy with TLS"
    )


class Route(Section):
    match: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description='a list of numbers and urns, such as ["112", "urn:service:sos.*"]'
    )
    action: Literal["queue", "test-call"] = Field(description='"queue" or "test-call"')
    skills: frozenset[str] = Field(frozenset(), description="a list of skills")
    language: Annotated[str | None, Field(pattern="^[a-z]{2,3}$")] = Field(
        None, description="a language, such as jv: the folder of its prompts"
    )


class Category(Section):
    id: Literal["fire", "accident", "disaster", "health", "security", "riot", "other"] = Field(
        description="fire, accident, disaster, health, security, riot or other (PM Kominfo 10/2016)"
    )
    name: Text = Field(description="the category's name as people read it")
    agencies: Annotated[tuple[str, ...], Field(min_length=1)] = Field(description="a list of agency ids, at least one")


class Feature(Section):
    dial: Annotated[str, Field(pattern=r"^\*[0-9*]{1,8}$")] = Field(description="* and 1 to 8 digits, such as *1")
    action: Literal["dispatch", "pause", "ready", "disposition", "callback"] = Field(
        description="dispatch, pause, ready, disposition or callback"
    )
    category: str | None = Field(None, description="a category id, with action = dispatch")
    disposition: Literal["normal", "prank", "ghost", "information"] | None = Field(
        None, description="normal, prank, ghost or information, with action = disposition"
    )
    reason: str | None = Field(None, description="why the seat pauses, with action = pause")

    @model_validator(mode="after")
    def _complete(self) -> "Feature":
        if self.action == "dispatch" and self.category is None:
            raise ValueError(f"category = a category id, for {self.dial} with action = dispatch")
        if self.action == "disposition" and self.disposition is None:
            raise ValueError(f"disposition = normal, prank, ghost or information, for {self.dial}")
        return self


class Dialplan(Section):
    routes: tuple[Route, ...] = Field((), alias="route", description="[[route]] tables")
    categories: tuple[Category, ...] = Field((), alias="category", description="[[category]] tables")
    features: tuple[Feature, ...] = Field((), alias="feature", description="[[feature]] tables")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
