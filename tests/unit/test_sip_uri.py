"""URIs: RFC 3261 19.1, RFC 3966, RFC 5031."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.uri import Uri


def test_sip_uri_in_all_its_parts() -> None:
    uri = Uri.parse("sip:alice:secret@example.com:5080;transport=tcp;lr?Subject=x&Priority=urgent")
    assert uri == Uri(
        "sip",
        "alice",
        "example.com",
        5080,
        (("transport", "tcp"), ("lr", None)),
        (("Subject", "x"), ("Priority", "urgent")),
        "secret",
    )
    assert uri.param("transport") == "tcp"
    assert uri.param("lr") == ""
    assert uri.param("maddr") is None


@pytest.mark.parametrize(
    "text",
    [
        "sip:112",
        "sip:112@192.0.2.1",
        "sips:112@example.com:5061",
        "sip:[2001:db8::1]",
        "sip:a@[2001:db8::1]:5060;transport=udp",
        "sip:@example.com",
        "sip:a;b=c@example.com",
        "sip:+62112;phone-context=+62@example.com;user=phone",
        "tel:+62-231-112",
        "tel:112;phone-context=+62",
        "urn:service:sos",
        "urn:service:sos.fire",
        "http://www.example.com/a?b=c",
        "cid:pidf@example.com",
        "sip:a@example.com?Replaces=id@192.0.2.1%3Bto-tag%3D1",
        "sip:a@example.com?Replaces=id@192.0.2.1;to-tag=1",
    ],
)
def test_str_is_the_inverse_of_parse(text: str) -> None:
    assert str(Uri.parse(text)) == text


def test_schemes_are_lower_case_and_a_colon_without_a_port_is_no_matter() -> None:
    assert str(Uri.parse("SIP:112@example.com:")) == "sip:112@example.com"
    assert Uri.parse("URN:Service:SOS").scheme == "urn"
    assert Uri.parse("URN:Service:SOS").opaque == "Service:SOS"


def test_tel_has_its_number_in_user() -> None:
    uri = Uri.parse("tel:+62-231-112;phone-context=x")
    assert (uri.user, uri.host, uri.param("phone-context")) == ("+62-231-112", "", "x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "uri"),
        ("sip:", "uri"),
        ("sip", "uri"),
        ("alice@example.com", "uri"),
        ("sip:a@", "uri"),
        ("sip:a@b c", "uri"),
        ("sip:a b@c", "uri"),
        ("sip:a@b@c", "uri"),
        ("sip:2001:db8::10", "uri"),
        ("sip:a@host:5060x", "uri"),
        ("sip:a@host:65536", "port"),
        ("sip:a@host:" + "9" * 5000, "port"),
        ("sip:a@[2001:db8::10", "uri"),
        ("sip:a@[2001:db8:::10::1]", "host"),
        ("sip:a@[not-an-address]", "host"),
        ("<sip:a@b>", "uri"),
        ("sip:a@b>", "uri"),
        ("tel:", "uri"),
        ("urn:", "uri"),
        ("1x:y", "uri"),
    ],
)
def test_what_is_no_uri(text: str, reason: str) -> None:
    with pytest.raises(RemoteError) as caught:
        Uri.parse(text)
    assert caught.value.reason == reason


def test_username_is_unescaped_and_user_is_not() -> None:
    uri = Uri.parse("sip:%61lice%40home@example.com")
    assert (uri.user, uri.username) == ("%61lice%40home", "alice@home")
    assert Uri.parse("sip:%ff@example.com").username == "�"
    assert Uri.parse("sip:example.com").username is None


def test_parameters_are_replaced_in_place_added_and_dropped() -> None:
    uri = Uri.parse("sip:a@b;transport=udp;lr")
    assert str(uri.with_params(("Transport", "tcp"), ("ob", None))) == "sip:a@b;transport=tcp;lr;ob"
    assert str(uri.without_params("transport")) == "sip:a@b;lr"


SAME = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40b",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40b",
    ),
    ("sip:a@b?subject=x&priority=y", "sip:a@b?priority=y&subject=x"),
    ("sip:a@[2001:DB8::1]", "sip:a@[2001:db8:0::1]"),
    ("tel:+62-231-112", "tel:+62231112"),
    ("tel:112;phone-context=A", "tel:112;Phone-Context=a"),
    ("urn:service:sos", "URN:SERVICE:SOS"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM", "sip:alice@AtLanTa.CoM"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com;user=phone", "sip:bob@biloxi.com"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next"),
    ("sip:a@b", "sips:a@b"),
    ("sip:a:x@b", "sip:a:y@b"),
    ("tel:+62231112", "tel:+62231113"),
    ("tel:112;phone-context=a", "tel:112;phone-context=b"),
    ("urn:service:sos", "urn:service:sos.fire"),
    ("http://a/x", "http://a/X"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equivalent(one: str, other: str) -> None:
    assert Uri.parse(one).equivalent(Uri.parse(other))
    assert Uri.parse(other).equivalent(Uri.parse(one))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_not_equivalent(one: str, other: str) -> None:
    assert not Uri.parse(one).equivalent(Uri.parse(other))
    assert not Uri.parse(other).equivalent(Uri.parse(one))


ODD = st.text(alphabet='abz019:;@[]?&=%.,+-_ <>"\\\t\x00é\u2028', max_size=40)


@given(st.one_of(ODD, st.builds("{}:{}".format, st.sampled_from(["sip", "SIPS", "tel", "urn", "x"]), ODD)))
def test_any_text_is_a_uri_or_the_one_error(text: str) -> None:
    try:
        uri = Uri.parse(text)
    except RemoteError:
        return
    assert Uri.parse(str(uri)) == uri
    assert uri.equivalent(uri)
    assert uri.username is None or isinstance(uri.username, str)
