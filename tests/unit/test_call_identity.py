"""Who calls: the classes of DOMAIN's carriers, and numbers in every spelling."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.call.identity import Identity, IdentityClass, e164, identify
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.fields import Headers
from siaga_pbx.sip.message import Request, parse
from siaga_pbx.sip.uri import Uri

SUBSCRIBER, NO_CREDIT, NO_SIM, WITHHELD = IdentityClass


@dataclass(frozen=True)
class Mark:
    header: str
    contains: str
    class_: str


@dataclass(frozen=True)
class Trunk:
    number_from: tuple[str, ...] = ("p-asserted-identity", "from")
    marks: tuple[Mark, ...] = ()


def invite(from_: str, *headers: tuple[str, str]) -> Request:
    given = (("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"), ("From", from_), ("To", "<sip:112@x>"), *headers)
    return Request("INVITE", Uri.parse("sip:112@x"), Headers(given))


def caller(from_: str, *headers: tuple[str, str], trunk: Trunk | None = None) -> Identity:
    return identify(invite(from_, *headers), trunk, "ID")


def seen(identity: Identity) -> tuple[IdentityClass, str | None, bool]:
    return identity.class_, identity.number, identity.callable


PAI = ("P-Asserted-Identity", "<tel:+628123456789>")
ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1'


@pytest.mark.parametrize(
    ("from_", "headers", "expected"),
    [
        ("<sip:+628123456789@ims.example>;tag=1", (), (SUBSCRIBER, "+628123456789", True)),
        ("<sip:someone@ims.example>;tag=1", (PAI,), (SUBSCRIBER, "+628123456789", True)),
        ("<sip:someone@ims.example>;tag=1", (), (SUBSCRIBER, None, False)),
        # No SIM: nobody's address, and no number anywhere.
        ("<sip:anonymous@anonymous.invalid>;tag=1", (), (NO_SIM, None, False)),
        ("<SIP:Anonymous@ANONYMOUS.Invalid>;tag=1", (), (NO_SIM, None, False)),
        ("<sip:unavailable@unknown.invalid>;tag=1", (), (NO_SIM, None, False)),
        ("<sip:+3581121234567@x>;tag=1", (), (NO_SIM, None, False)),
        ("<sip:1121234567@x>;tag=1", (), (NO_SIM, None, False)),
        ("<sip:350012345678901@x>;tag=1", (), (NO_SIM, None, False)),
        ("<sip:x@x>;tag=1", (("P-Asserted-Identity", "<urn:gsma:imei:35001234-567890-0>"),), (NO_SIM, None, False)),
        ("<sip:unavailable@unknown.invalid>;tag=1", (PAI,), (SUBSCRIBER, "+628123456789", True)),
        # Withheld: the caller wishes it, the network knows who it is.
        (ANONYMOUS, (PAI, ("Privacy", "id")), (WITHHELD, "+628123456789", True)),
        (ANONYMOUS, (PAI, ("Privacy", "critical; ID")), (WITHHELD, "+628123456789", True)),
        ("<sip:+628123456789@x>;tag=1", (("Privacy", "user"),), (WITHHELD, "+628123456789", True)),
        ("<sip:+628123456789@x>;tag=1", (("Privacy", "header"),), (WITHHELD, "+628123456789", True)),
        ("<sip:+628123456789@x>;tag=1", (("Privacy", "none"),), (SUBSCRIBER, "+628123456789", True)),
        (ANONYMOUS, (("Privacy", "id"),), (WITHHELD, None, False)),
        ('"Anonymous" <sip:x@carrier.example>;tag=1', (), (WITHHELD, None, False)),
        ("<sip:anonymous@carrier.example>;tag=1", (), (WITHHELD, None, False)),
        (ANONYMOUS, (PAI,), (SUBSCRIBER, "+628123456789", True)),
        # What is no address at all.
        ("\x00\x00", (), (SUBSCRIBER, None, False)),
        ("<sip:+628123456789@x>;tag=1", (("P-Asserted-Identity", "<<garbage"),), (SUBSCRIBER, "+628123456789", True)),
    ],
)
def test_the_classes(
    from_: str, headers: tuple[tuple[str, str], ...], expected: tuple[IdentityClass, str | None, bool]
) -> None:
    assert seen(caller(from_, *headers)) == expected


NO_CREDIT_MARK = Mark("P-Charge-Info", "nocredit", "no_credit")


def test_no_credit_is_what_the_trunk_marks() -> None:
    trunk = Trunk(marks=(NO_CREDIT_MARK,))
    charged = ("P-Charge-Info", "<sip:x>;NoCredit=1")
    from_ = "<sip:+628123456789@x>;tag=1"
    assert seen(caller(from_, charged, trunk=trunk)) == (NO_CREDIT, "+628123456789", True)
    assert seen(caller(from_, charged, trunk=Trunk())) == (SUBSCRIBER, "+628123456789", True)
    assert seen(caller(from_, ("P-Charge-Info", "<sip:x>"), trunk=trunk)) == (SUBSCRIBER, "+628123456789", True)


def test_a_mark_is_found_in_any_line_of_its_header_and_the_first_mark_wins() -> None:
    trunk = Trunk(marks=(Mark("X-Class", "emergency-only", "no_sim"), NO_CREDIT_MARK))
    lines = (("X-Class", "a"), ("x-class", "EMERGENCY-ONLY"), ("P-Charge-Info", "nocredit"))
    assert seen(caller("<sip:+628123456789@x>;tag=1", *lines, trunk=trunk)) == (NO_SIM, None, False)


def test_the_trunk_says_where_the_number_is() -> None:
    from_, headers = "<sip:+628111111111@x>;tag=1", (PAI, ("Remote-Party-ID", "<sip:+628222222222@x>;party=calling"))
    assert caller(from_, *headers).number == "+628123456789"
    assert caller(from_, *headers, trunk=Trunk(("from",))).number == "+628111111111"
    assert caller(from_, *headers, trunk=Trunk(("remote-party-id", "from"))).number == "+628222222222"
    assert caller(from_, trunk=Trunk(("p-asserted-identity",))).number is None
    assert caller(from_, trunk=Trunk(("something-else", "from"))).number == "+628111111111"


def test_the_second_of_two_asserted_identities_may_have_the_number() -> None:
    asserted = ("P-Asserted-Identity", "<sip:alice@ims.example>, <tel:+628123456789>")
    assert caller("<sip:alice@ims.example>;tag=1", asserted).number == "+628123456789"


def test_from_asserted_privacy_and_diversion_are_kept_apart() -> None:
    identity = caller(ANONYMOUS, PAI, ("Privacy", "id;critical"), ("Diversion", "<sip:+62231112@x>;reason=unknown"))
    assert identity.from_ == ANONYMOUS
    assert identity.asserted == ("<tel:+628123456789>",)
    assert identity.privacy == {"id", "critical"}
    assert identity.diversion == ("<sip:+62231112@x>;reason=unknown",)


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("tel:+62-812-3456-7890", "+6281234567890"),
        ("tel:0812-3456-7890", "+6281234567890"),
        ("tel:6281234567890", "+6281234567890"),
        ("sip:081234567890@x;user=phone", "+6281234567890"),
        ("sip:+6281234567890@x", "+6281234567890"),
        ("sip:%2B6281234567890@x", "+6281234567890"),
        ("sip:6281234567890;npdi@x;user=phone", "+6281234567890"),
        ("sip:0231234567@x", "+62231234567"),
        ("tel:8123456;phone-context=+6221", "+62218123456"),
        ("sip:8123456;phone-context=+6221@x;user=phone", "+62218123456"),
        ("tel:8123456789;phone-context=ims.example", "+628123456789"),
        ("sip:00442071234567@x", "+442071234567"),
        ("sip:442071234567@x", "+442071234567"),
        ("tel:+919112345678", "+919112345678"),
        ("sip:101@x", None),
        ("sip:112@x", None),
        ("tel:+62112", None),
        ("sip:alice@x", None),
        ("sip:x", None),
        ("urn:service:sos", None),
        ("tel:" + "1" * 200, None),
    ],
)
def test_numbers(uri: str, number: str | None) -> None:
    assert e164(Uri.parse(uri), "ID") == number


def test_a_number_that_begins_with_the_countrys_code_is_international() -> None:
    """Carriers leave out the +. It might be a line in North Sumatra (0628), but no network leaves out that 0."""
    assert e164(Uri.parse("sip:62811222333@x"), "ID") == "+62811222333"
    assert e164(Uri.parse("sip:0628112233@x"), "ID") == "+62628112233"


def test_a_national_number_belongs_to_the_centres_country() -> None:
    assert e164(Uri.parse("tel:020 7123 4567".replace(" ", "")), "GB") == "+442071234567"


BYTES = st.binary(max_size=120).map(lambda value: value.replace(b"\n", b"").replace(b"\r", b""))


@given(BYTES, BYTES, BYTES)
def test_no_header_bytes_raise(from_: bytes, asserted: bytes, privacy: bytes) -> None:
    head = b"INVITE sip:112@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nTo: <sip:112@x>\r\nCall-ID: 1\r\n"
    message = head + b"CSeq: 1 INVITE\r\nFrom: x" + from_ + b"\r\nP-Asserted-Identity: " + asserted
    try:
        request = parse(message + b"\r\nPrivacy: " + privacy + b"\r\n\r\n")
    except RemoteError:
        return
    assert isinstance(request, Request)
    identity = identify(request, Trunk(marks=(Mark("From", "x", "no_credit"),)), "ID")
    assert identity.callable is (identity.number is not None)


NUMBERISH = st.text("0123456789+-.()*#;=abcphone-context%٣ ", max_size=50)


@given(st.sampled_from(["tel:", "sip:"]), NUMBERISH, st.sampled_from(["ID", "US", "GB", "FI"]))
def test_a_number_is_e164_or_none(scheme: str, text: str, country: str) -> None:
    try:
        uri = Uri.parse(f"{scheme}{text}{'@x' if scheme == 'sip:' else ''}")
    except RemoteError:
        return
    number = e164(uri, country)
    assert number is None or (number[0] == "+" and number[1:].isascii() and number[1:].isdigit() and len(number) <= 16)
