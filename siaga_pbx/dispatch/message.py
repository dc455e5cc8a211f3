"""The messages between the centre and the agencies: schema version 1, as JSON, and where on the broker they go.

Both ends check what they receive with these models; `schemas/` holds the JSON Schema made from them for those who write
an end of their own. Members that are not known are ignored, so that a later version may add some.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from siaga_pbx.dispatch.ladder import Answer, State

MAX_PAYLOAD = 65_536  # bytes; the largest dispatch there can be is some 20 KiB

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
AgencyId = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
UtcTime = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", examples=["2026-11-24T00:00:00.000Z"]),
]
# Not Literal[1], which takes true for 1.
Version = Annotated[int, Field(ge=1, le=1), WithJsonSchema({"const": 1, "type": "integer"})]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class PayloadError(Exception):
    """What was received is not what the schema says; the message says where, in one line."""


class Kind(StrEnum):
    """What a dispatch message asks: somebody to go (even if it was closed before), to know more, or to go no longer."""

    ALERT = "alert"
    UPDATE = "update"
    CANCEL = "cancel"


class Purpose(StrEnum):
    """Whether somebody is to go: `actual`; `exercise`: a drill with people; `test`: of the equipment alone."""

    ACTUAL = "actual"
    EXERCISE = "exercise"
    TEST = "test"


class Message(BaseModel):
    """Base of the messages: frozen, strict about types, silent about members it does not know."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False, serialize_by_alias=True)
    name: ClassVar[str]

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """The message. Raises PayloadError."""
        if len(payload) > MAX_PAYLOAD:
            raise PayloadError(f"{len(payload)} bytes, more than {MAX_PAYLOAD}")
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise PayloadError(f"{where}: {first['msg']}" if where else first["msg"]) from None

    def encode(self) -> bytes:
        """The message as JSON in UTF-8."""
        return self.model_dump_json().encode()


class Location(Message):
    """Where it is, as far as it is known: by the network, in the call-taker's words, or both."""

    name = "location"

    lat: Annotated[float, Field(ge=-90, le=90)] | None = Field(None, description="degrees, WGS 84")
    lon: Annotated[float, Field(ge=-180, le=180)] | None = Field(None, description="degrees, WGS 84")
    radius_m: Annotated[float, Field(ge=0)] | None = Field(None, description="metres around lat, lon")
    method: Annotated[str, Field(max_length=64)] | None = Field(None, description="how lat, lon were found")
    address: Annotated[str, Field(max_length=500)] | None = Field(None, description="in words")


class Callback(Message):
    """Whether and how the caller can be called back."""

    name = "callback"

    number: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="E.164; null when there is none, or the informant is protected"
    )
    callable: bool = Field(description="whether the centre can call the caller back")
    identity_class: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="subscriber, no_credit, no_sim or withheld"
    )


class Dispatch(Message):
    """`{prefix}/dispatch/{agency}`: what an agency is to do; dispatch_id and sequence are its key."""

    name = "dispatch"

    schema_: Version = Field(alias="schema", description="the version of this schema")
    dispatch_id: Id = Field(description="the same for all sequences of one incident and agency")
    incident_id: Id
    call_id: Id
    sequence: Annotated[int, Field(ge=1)] = Field(description="raised by each update; the highest is what holds")
    type: Kind = Field(description="alert, update or cancel")
    status: Purpose = Field(description="actual, exercise or test")
    sent_at: UtcTime = Field(description="when this sequence was made; the same in every repetition")
    expires_at: UtcTime = Field(description="after this it is history, not an order")
    accept_by: UtcTime = Field(description="until then a person has to accept, or the centre escalates")
    priority: Annotated[int, Field(ge=0, le=9)] = Field(description="as the centre ranks its calls; 0 is most urgent")
    category: Annotated[str, Field(min_length=1, max_length=32)] = Field(
        description="fire, accident, disaster, health, security, riot or other"
    )
    agency: AgencyId
    location: Location | None = None
    callback: Callback | None = None
    protected: bool = Field(description="the informant's identity is to be kept from others")
    people: Count | None = Field(None, description="how many people are affected")
    callers: Annotated[int, Field(ge=1)] = Field(1, description="how many calls have reported it")
    note: Annotated[str, Field(max_length=2000)] = Field("", description="what happened, in the call-taker's words")
    seat: Annotated[str, Field(max_length=64)] | None = Field(None, description="the call-taker's seat")
    centre: AgencyId = Field(description="the centre's id")


class Ack(Message):
    """`{prefix}/ack/{agency}`: how far the agency has come. A later state implies the earlier ones; none goes back."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["reason"], "properties": {"reason": {"type": "string", "minLength": 1}}},
            "then": {"properties": {"state": {"const": "rejected"}}},
        }
    )
    name = "ack"

    dispatch_id: Id
    state: Answer
    at: Annotated[str, Field(max_length=64)] = Field(
        description="when, by the agency's clock; recorded, never judged", examples=["2026-11-24T00:00:00.000Z"]
    )
    by: Annotated[str, Field(max_length=100)] = Field(description="who or what answers", examples=["Regu 1"])
    reason: Annotated[str, Field(max_length=500)] | None = Field(None, description="why; only with rejected")
    sequence: Annotated[int, Field(ge=1)] | None = Field(None, description="which sequence; absent: the latest")
    kept: bool | None = Field(
        None, description="false: the agency's disk does not hold it, so the centre goes on sending; absent: it does"
    )

    @model_validator(mode="after")
    def _reason_only_with_rejected(self) -> Self:
        if self.reason and self.state is not State.REJECTED:
            raise ValueError(f"reason: only with rejected, not with {self.state}")
        return self

    def encode(self) -> bytes:
        """The message as JSON in UTF-8, without the members that say nothing."""
        return self.model_dump_json(exclude_none=True).encode()


class Presence(Message):
    """`{prefix}/presence/{agency}`, retained: whether the agency's end is there; "offline" is its will."""

    name = "presence"

    schema_: Version = Field(alias="schema")
    agency: AgencyId
    state: Literal["online", "offline"]
    at: Annotated[str, Field(max_length=64)] = Field(description="in a will: since when the connection was there")


class Status(Message):
    """`{prefix}/status`, retained: whether the centre is there; "offline" is its will."""

    name = "status"

    schema_: Version = Field(alias="schema")
    centre: AgencyId
    state: Literal["online", "offline"]
    at: Annotated[str, Field(max_length=64)] = Field(description="in a will: since when the connection was there")


class Chain(Message):
    """`{prefix}/chain`, retained: the end of the record's chain of events. Who keeps some can tell one made anew."""

    name = "chain"

    schema_: Version = Field(alias="schema")
    centre: AgencyId
    seq: Annotated[int, Field(ge=0)] = Field(description="the number of the last event; 0 before the first")
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="its hash, which all before it went into"
    )
    at: UtcTime = Field(description="when this was published")
