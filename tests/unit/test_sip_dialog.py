"""Dialog state by itself (RFC 3261 12); its life within a call is in tests/flows."""

import pytest

from siaga_pbx.sip.dialog import Dialog, accept_dialog
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request, Response, make_response, parse
from siaga_pbx.sip.uri import Uri

US = ("192.0.2.10", 5060)
WAY = Flow("udp", US, ("198.51.100.1", 5060))


def invite(**headers: str) -> Request:
    lines = {
        "Via": "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bKa",
        "From": '"A, B" <sip:a@x>;tag=theirs;x=y',
        "To": "sip:112@siaga.local;user=phone",
        "Call-ID": "c",
        "CSeq": "7 INVITE",
        "Contact": "<sip:a@198.51.100.1:5070>",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    message = parse(f"INVITE sip:112@siaga.local SIP/2.0\r\n{text}\r\n".encode())
    assert isinstance(message, Request)
    return message


def uac() -> Dialog:
    return Dialog("c", "ours", "<sip:b@us>;tag=ours", "<sip:112@x>", Uri.parse("sip:112@x"), WAY, US, local_cseq=1)


def success(
    *, to: str = "<sip:112@x>;tag=t", routes: tuple[str, ...] = (), contact: str = "<sip:c@10.0.0.1>"
) -> Response:
    headers = (*(("Record-Route", route) for route in routes), ("Contact", contact))
    response = make_response(invite(To="<sip:112@x>"), 200, headers=headers)
    response.headers.set("To", to)
    return response


def test_a_dialog_of_theirs() -> None:
    dialog = accept_dialog(invite(Record_Route="<sip:p1;lr>, <sip:p2;lr>"), "ours", WAY, US)
    request = dialog.next_request("BYE")
    assert str(request.uri) == "sip:a@198.51.100.1:5070"
    assert request.headers.get("To") == '"A, B" <sip:a@x>;tag=theirs;x=y'
    assert request.from_.tag == "ours"
    assert str(request.cseq) == "1 BYE"
    assert request.headers.get_all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert dialog.remote_cseq == 7


def test_without_a_contact_the_from_is_the_remote_target() -> None:
    for contact in ("*", "tel:+62", ""):
        dialog = accept_dialog(invite(Contact=contact), "ours", WAY, US)
        assert str(dialog.target) == "sip:a@x"


def test_a_peer_without_a_tag_is_served() -> None:
    dialog = accept_dialog(invite(From="<sip:a@x>"), "ours", WAY, US)
    assert dialog.remote_tag == ""


def test_a_dialog_of_ours() -> None:
    dialog = uac()
    dialog.establish(success(routes=("<sip:p2;lr>", "<sip:p1;lr>")))
    request = dialog.next_request("BYE")
    assert str(request.uri) == "sip:c@10.0.0.1"
    assert request.headers.get("To") == "<sip:112@x>;tag=t"
    assert str(request.cseq) == "2 BYE"
    assert request.headers.get_all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert str(dialog.next_hop()) == "sip:p1;lr"


def test_an_ack_has_the_cseq_of_its_invite_and_counts_nothing() -> None:
    dialog = uac()
    dialog.establish(success())
    assert str(dialog.request("ACK", 1).cseq) == "1 ACK"
    assert dialog.local_cseq == 1


def test_a_strict_router_first() -> None:
    dialog = uac()
    dialog.establish(success(routes=("<sip:p2;lr>", "<sip:p1>")))
    request = dialog.next_request("BYE")
    assert str(request.uri) == "sip:p1"
    assert request.headers.get_all("Route") == ["<sip:p2;lr>", "<sip:c@10.0.0.1>"]


def test_requests_come_in_order() -> None:
    dialog = accept_dialog(invite(), "ours", WAY, US)
    assert dialog.in_order(8)
    assert dialog.in_order(8)
    assert dialog.in_order(100)
    assert not dialog.in_order(99)
    assert uac().in_order(0)


@pytest.mark.parametrize("contact", ["<sip:siaga@192.0.2.10>", "<sip:192.0.2.10:5060;x=y>", "<tel:+62>"])
def test_a_target_that_is_ourselves_or_no_sip_uri_is_ignored(contact: str) -> None:
    dialog = uac()
    dialog.retarget(NameAddr.parse(contact))
    dialog.retarget(None)
    assert str(dialog.target) == "sip:112@x"


def test_the_latest_early_fork_is_kept() -> None:
    dialog = uac()
    dialog.early(success(to="<sip:112@x>;tag=one"))
    dialog.early(success(to="<sip:112@x>;tag=two"))
    dialog.early(success(to="<sip:112@x>"))
    assert (dialog.remote_tag, dialog.remote) == ("two", "<sip:112@x>;tag=two")
