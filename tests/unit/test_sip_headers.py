"""Header values: RFC 3261 20.10, 20.16, 20.42, 25.1; RFC 3581."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.headers import CSeq, NameAddr, Via, parse_name_addr_list
from siaga_pbx.sip.params import format_params, parse_params, quote, split_commas, unquote
from siaga_pbx.sip.uri import Uri


class TestNameAddr:
    @pytest.mark.parametrize(
        ("text", "display", "uri", "params"),
        [
            ("<sip:a@b>", "", "sip:a@b", ()),
            ("<sip:a@b;lr>;tag=1", "", "sip:a@b;lr", (("tag", "1"),)),
            ("sip:a@b;tag=1", "", "sip:a@b", (("tag", "1"),)),
            (" Budi Santoso <sip:a@b> ; tag = 1", "Budi Santoso", "sip:a@b", (("tag", "1"),)),
            ('"Budi \\"B\\" <x>, S;" <sip:a@b>', 'Budi "B" <x>, S;', "sip:a@b", ()),
            ('""<sip:a@b>', "", "sip:a@b", ()),
            ("<tel:+62112>;q=0.5;x", "", "tel:+62112", (("q", "0.5"), ("x", None))),
            ('<sip:a@b>;+sip.instance="<urn:uuid:1>"', "", "sip:a@b", (("+sip.instance", '"<urn:uuid:1>"'),)),
        ],
    )
    def test_parse(self, text: str, display: str, uri: str, params: tuple[tuple[str, str | None], ...]) -> None:
        assert NameAddr.parse(text) == NameAddr(display, Uri.parse(uri), params)

    @pytest.mark.parametrize(
        ("text", "display"),
        [
            ('"Budi <sip:a@b>', "Budi"),
            ('Budi" <sip:a@b>', "Budi"),
            ('"Budi" Santoso <sip:a@b>', 'Budi" Santoso'),
            ("Bell, Alexander <sip:a@b>", "Bell, Alexander"),
            ("< sip:a@b >", ""),
        ],
    )
    def test_what_is_nearly_right_is_understood(self, text: str, display: str) -> None:
        address = NameAddr.parse(text)
        assert (address.display, str(address.uri)) == (display, "sip:a@b")

    @pytest.mark.parametrize("text", ["", "<", "<>", "<sip:a@b", "a@b", "*", "sip:a@b?x=y", "<a@b>", '"x" sip:a@b'])
    def test_what_is_no_address(self, text: str) -> None:
        with pytest.raises(RemoteError):
            NameAddr.parse(text)

    @pytest.mark.parametrize(
        ("text", "uri", "tag"),
        [
            ("ralph@example.com", "sip:ralph@example.com", None),
            ("<ralph@example.com>;tag=1", "sip:ralph@example.com", None),
            ("sip:a b@c;tag=77", "unreadable:sip:ab@c;tag=77", "77"),
            ("", "unreadable:address", None),
            ('"<', "unreadable:address", None),
        ],
    )
    def test_salvage_finds_something_in_any_wreck(self, text: str, uri: str, tag: str | None) -> None:
        address = NameAddr.salvage(text)
        assert str(address.uri) == uri or address.tag == tag

    def test_salvage_keeps_the_tag(self) -> None:
        assert NameAddr.salvage("Budi <sip:a@b c>; Tag = x1;y").tag == "x1"
        assert NameAddr.salvage("<ralph@example.com>;tag=1").tag == "1"

    def test_tag_and_params(self) -> None:
        address = NameAddr.parse('<sip:a@b>;Tag=1;x="y z"')
        assert (address.tag, address.param("x"), address.param("y")) == ("1", "y z", None)
        assert NameAddr.parse("<sip:a@b>;tag=").tag is None
        assert str(address.with_tag("2")) == '<sip:a@b>;Tag=2;x="y z"'
        assert str(address.without_params("tag")) == '<sip:a@b>;x="y z"'
        assert str(NameAddr("", Uri.parse("sip:a@b")).with_tag("2")) == "<sip:a@b>;tag=2"

    def test_a_list_is_split_at_its_own_commas_only(self) -> None:
        found = parse_name_addr_list('"A, B" <sip:a@b;x=1,2>, <sip:c@d>;q=1,, sip:e@f')
        assert [str(address.uri) for address in found] == ["sip:a@b;x=1,2", "sip:c@d", "sip:e@f"]

    @given(st.text(st.characters(exclude_characters="\r\n"), max_size=30), st.text("abc01-", min_size=1, max_size=9))
    def test_str_is_the_inverse_of_parse(self, display: str, tag: str) -> None:
        address = NameAddr(display.strip(), Uri.parse("sip:a@b;lr"), (("tag", tag),))
        assert NameAddr.parse(str(address)) == address


class TestVia:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("SIP/2.0/UDP 192.0.2.1", Via("UDP", "192.0.2.1")),
            ("SIP/2.0/UDP 192.0.2.1:5060;rport", Via("UDP", "192.0.2.1", 5060, (("rport", None),))),
            (
                "SIP / 2.0 / TLS  host.example.com : 5061 ; branch = z9hG4bK1",
                Via("TLS", "host.example.com", 5061, (("branch", "z9hG4bK1"),)),
            ),
            ("SIP/2.0/TCP [2001:db8::1]:5060;branch=x", Via("TCP", "2001:db8::1", 5060, (("branch", "x"),))),
            ("SIP/7.0/udp host_1.;;;", Via("udp", "host_1.")),
        ],
    )
    def test_parse(self, text: str, expected: Via) -> None:
        assert Via.parse(text) == expected
        assert Via.parse(str(expected)) == expected

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "via"),
            ("SIP/2.0/UDP", "via"),
            ("SIP/2.0 192.0.2.1", "via"),
            ("SIP/2.0/UDP a b", "via"),
            ("SIP/2.0/UDP a:99999", "port"),
            ("SIP/2.0/UDP [::x]", "host"),
        ],
    )
    def test_what_is_no_via(self, text: str, reason: str) -> None:
        with pytest.raises(RemoteError) as caught:
            Via.parse(text)
        assert caught.value.reason == reason

    def test_where_it_came_from(self) -> None:
        via = Via.parse("SIP/2.0/UDP 10.0.0.1;rport=6000;received=192.0.2.9;branch=z9hG4bKx")
        assert (via.branch, via.received, via.rport) == ("z9hG4bKx", "192.0.2.9", 6000)
        asking = Via.parse("SIP/2.0/UDP 10.0.0.1;rport")
        assert (asking.branch, asking.received, asking.rport, asking.param("rport")) == (None, None, None, "")
        assert Via.parse("SIP/2.0/UDP a;rport=²").rport is None

    def test_with_params(self) -> None:
        via = Via.parse("SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bKx").with_params(
            ("rport", "6000"), ("received", "1.2.3.4")
        )
        assert str(via) == "SIP/2.0/UDP 10.0.0.1;rport=6000;branch=z9hG4bKx;received=1.2.3.4"


class TestCSeq:
    def test_parse(self) -> None:
        assert CSeq.parse(" 0009   INVITE ") == CSeq(9, "INVITE")
        assert str(CSeq(9, "INVITE")) == "9 INVITE"
        assert CSeq.parse("4294967295 BYE").number == 2**32 - 1

    @pytest.mark.parametrize(
        "text", ["", "1", "INVITE", "-1 BYE", "4294967296 BYE", "1 BYE x", "9" * 5000 + " BYE", "² BYE"]
    )
    def test_what_is_no_cseq(self, text: str) -> None:
        with pytest.raises(RemoteError) as caught:
            CSeq.parse(text)
        assert caught.value.reason == "cseq"


class TestParams:
    def test_quotes_hide_separators(self) -> None:
        assert parse_params(';a="x;y\\";z";b;;c=') == (("a", '"x;y\\";z"'), ("b", None), ("c", ""))
        assert split_commas('a, "b, c" , <d,e>,,f"g') == ["a", '"b, c"', "<d,e>", 'f"g']
        assert split_commas("a,b") == ["a", "b"]
        assert split_commas("<a, b") == ["<a, b"]

    @given(st.text(max_size=40))
    def test_quote_and_unquote_are_inverse_but_for_line_breaks(self, text: str) -> None:
        assert unquote(quote(text)) == text.replace("\r", " ").replace("\n", " ")

    @given(st.text(alphabet='ab=;," \\<>', max_size=60))
    def test_what_was_parsed_once_is_stable(self, text: str) -> None:
        once = parse_params(text)
        assert parse_params(format_params(once)) == once
        for part in split_commas(text):
            assert split_commas(part) == [part]

    @pytest.mark.parametrize(
        "text", ['"' * 60_000, '"\\' * 30_000, "<" * 60_000, '<"' * 30_000, ";" * 60_000, "," * 60_000]
    )
    def test_no_text_takes_more_than_linear_time(self, text: str) -> None:
        split_commas(text)  # a quadratic search would take minutes here
        parse_params(text)
        NameAddr.salvage(text)
        NameAddr.salvage(text + "<sip:a@b>")


ODD = st.text(alphabet='ab01:;@[]?=%.,/ <>"\\\tSIP2é', max_size=60)


@given(st.one_of(ODD, st.builds("SIP/2.0/UDP {}".format, ODD), st.builds("<sip:{}>{}".format, ODD, ODD)))
def test_any_text_is_a_value_or_the_one_error(text: str) -> None:
    for kind in (NameAddr, Via, CSeq):
        try:
            value = kind.parse(text)
        except RemoteError:
            continue
        assert kind.parse(str(value)) == value
    salvaged = NameAddr.salvage(text)
    assert NameAddr.salvage(str(salvaged)).tag == salvaged.tag
