"""The trace of calls: which messages are kept, how much of them, and in what form they are shown."""

import shutil
import subprocess
from datetime import UTC
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.commands.ladder import label, ladder
from siaga_pbx.net.pcap import pcap
from siaga_pbx.net.trace import MAX_MESSAGES, MAX_STRAY_BYTES, Trace, Traced
from siaga_pbx.web.traces import masked

US, CARRIER, SEAT = ("192.0.2.10", 5060), ("198.51.100.1", 5060), ("203.0.113.7", 40000)


def message(first: str, call_id: str = "one", cseq: str = "1 INVITE", extra: str = "", body: str = "") -> bytes:
    return (
        f"{first}\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1234567890\r\nFrom: <sip:+628119876543@a>;tag=1\r\n"
        f"To: <sip:112@b>\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def traced(data: bytes, at: float = 1.0, sent: bool = False, remote: tuple[str, int] = CARRIER) -> Traced:
    return Traced(at, sent, "udp", US, remote, data)


INVITE = message("INVITE sip:112@b SIP/2.0", extra="Content-Type: application/sdp\r\n", body="v=0\r\n")


def test_the_legs_of_a_call_are_together_and_in_order() -> None:
    trace = Trace()
    trace.note(traced(INVITE, 1.0))
    trace.join("call", "one")
    trace.join("call", "two")  # before our own INVITE goes out
    trace.note(traced(message("INVITE sip:101@c SIP/2.0", "two"), 2.0, True, SEAT))
    trace.note(traced(message("SIP/2.0 200 OK", "two"), 4.0, False, SEAT))
    trace.note(traced(message("SIP/2.0 100 Trying"), 1.5, True))
    assert [one.at for one in trace.of("call")] == [1.0, 1.5, 2.0, 4.0]
    assert trace.of("another") == []


def test_keys_of_srtp_are_not_kept() -> None:
    key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
    lines = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20\r\na=crypto:2 X inline:{key};inline:{key}\r\n"
    trace = Trace()
    for body in (f"v=0\r\n{lines}", "v=0\r\ni=inline:speech\r\n", f"v=0\r\na=CRYPTO:1 X inline:{key}\r\n"):
        trace.note(traced(message("INVITE sip:112@b SIP/2.0", extra="Content-Type: application/sdp\r\n", body=body)))
    trace.join("call", "one")
    keyed, other, odd = trace.of("call")
    sent = message("INVITE sip:112@b SIP/2.0", extra="Content-Type: application/sdp\r\n", body=f"v=0\r\n{lines}")
    assert keyed.data == sent.replace(key.encode(), b"*" * 40), "as long as it was"
    assert b"inline:speech" in other.data
    assert key.encode() not in odd.data


def test_what_begins_with_no_invite_is_not_kept() -> None:
    trace = Trace()
    for first in ("REGISTER sip:b SIP/2.0", "OPTIONS sip:b SIP/2.0", "BYE sip:b SIP/2.0", "SIP/2.0 200 OK"):
        trace.note(traced(message(first)))
    trace.join("call", "one")
    assert trace.of("call") == []


def test_the_oldest_call_goes_first_and_nothing_is_left_of_it() -> None:
    trace = Trace(max_bytes=10_000)
    for number in range(100):
        trace.note(traced(message("INVITE sip:112@b SIP/2.0", f"dialog-{number}")))
        trace.join(f"call-{number}", f"dialog-{number}")
    kept = [number for number in range(100) if trace.of(f"call-{number}")]
    assert kept == list(range(100 - len(kept), 100))
    assert 10 < len(kept) < 40
    assert len(trace._calls) == len(kept)


def test_nothing_is_left_of_a_call_that_is_erased() -> None:
    trace = Trace()
    for number, sip_call_id in enumerate(("one", "two", "three")):
        trace.join("other" if number == 2 else "call", sip_call_id)
        trace.note(traced(message("INVITE sip:112@b SIP/2.0", sip_call_id)))
    others = trace.of("other")
    trace.forget("call")
    trace.note(traced(message("BYE sip:112@b SIP/2.0", "one", "2 BYE")))
    assert trace.of("call") == []
    assert trace.of("other") == others
    assert "one" not in str(trace._dialogs) + str(trace._strays) + str(trace._calls)
    assert trace._size == trace._dialogs["three"].size
    trace.forget("of-no-trace")


def test_a_flood_that_is_no_call_s_pushes_none_out_and_takes_little() -> None:
    trace = Trace()
    trace.note(traced(INVITE, 1.0))
    trace.join("call", "one")
    for number in range(50_000):
        trace.note(traced(message("INVITE sip:112@b SIP/2.0", f"noise-{number % 2000}")))
    assert len(trace.of("call")) == 1
    assert trace._size + trace._stray_size <= MAX_STRAY_BYTES + 1000
    trace.note(traced(message("INVITE sip:112@b SIP/2.0", "late")))
    trace.join("another", "late")
    assert len(trace.of("another")) == 1, "what comes just before its call is known is kept"


def test_one_dialog_cannot_have_it_all() -> None:
    trace = Trace()
    for _ in range(3 * MAX_MESSAGES):
        trace.note(traced(INVITE))
    trace.join("call", "one")
    assert len(trace.of("call")) == MAX_MESSAGES


@given(st.lists(st.tuples(st.binary(max_size=80), st.booleans()), max_size=30))
def test_no_bytes_harm_it(items: list[tuple[bytes, bool]]) -> None:
    trace = Trace(max_bytes=2_000)
    for data, is_invite in items:
        trace.note(traced((b"INVITE x SIP/2.0\r\nCall-ID: " if is_invite else b"") + data))
        trace.join(f"call-{data[:1]!r}", data[1:2].decode("latin-1"))
    for size, dialogs in ((trace._size, trace._dialogs), (trace._stray_size, trace._strays)):
        assert 0 <= size <= 2_000
        assert size == sum(dialog.size for dialog in dialogs.values())


def test_masked_it_has_no_number_and_every_byte_else_in_its_place() -> None:
    proof = 'Authorization: Digest username="101", nonce="abc", response="0123456789abcdef"\r\n'
    data = message("INVITE tel:+62-811-987-6543 SIP/2.0", extra=proof, body="\xff\r\n")
    shown = masked(data)
    assert len(shown) == len(data)
    assert b"9876543" not in shown
    assert b"987-6543" not in shown
    assert b"0123456789abcdef" not in shown
    assert b"z9hG4bK1234567890" in shown
    assert b"543@a>" in shown


def test_a_ladder() -> None:
    call = [
        traced(INVITE, 1.0),
        traced(message("SIP/2.0 200 OK"), 1.25, True),
        traced(message("INVITE sip:101@c SIP/2.0", "two"), 2.0, True, SEAT),
        traced(message("SIP/2.0 180 Ringing", "two"), 2.5, False, SEAT),
    ]
    head, *lines = ladder(call, UTC)
    assert head.split() == ["198.51.100.1:5060", "siaga-pbx", "203.0.113.7:40000"]
    assert lines[0].split("│")[1].strip("─>") == " INVITE (SDP) "
    assert lines[0].startswith("00:00:01.000")
    assert ">" in lines[0]
    assert "<" in lines[1]
    assert "200 OK INVITE" in lines[1]
    assert lines[2].endswith(">│")
    assert lines[3].index("<") == lines[2].index("─")
    assert len({len(line) for line in lines[2:]}) == 1


def test_labels() -> None:
    assert label(INVITE) == "INVITE (SDP)"
    assert label(message("SIP/2.0 486 Busy Here")) == "486 Busy Here INVITE"
    assert label(b"\xff") == "\N{REPLACEMENT CHARACTER}"


def test_a_pcap_is_read_as_sip_by_another_program(tmp_path: Path) -> None:
    """tshark: the addresses, the times, the methods, and checksums that hold."""
    six = Traced(3.25, True, "tcp", ("2001:db8::10", 5060), ("2001:db8::1", 5060), message("BYE sip:x SIP/2.0"))
    file = tmp_path / "call.pcap"
    file.write_bytes(pcap([traced(INVITE, 1.5), traced(message("SIP/2.0 200 OK"), 2.0, True), six]))
    tshark = shutil.which("tshark")
    assert tshark is not None, "apt-get install tshark"
    fields = ["frame.time_epoch", "ip.src", "ipv6.src", "udp.srcport", "sip.Method", "sip.Status-Code", "_ws.expert"]
    asked = [word for name in fields for word in ("-e", name)]
    checks = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
    done = subprocess.run(
        [tshark, "-r", str(file), "-T", "fields", "-E", "separator=,", *asked, *checks],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split(",")[:6] for line in done.stdout.splitlines()] == [
        ["1.500000000", "198.51.100.1", "", "5060", "INVITE", ""],
        ["2.000000000", "192.0.2.10", "", "5060", "", "200"],
        ["3.250000000", "", "2001:db8::10", "5060", "BYE", ""],
    ]
    assert "checksum" not in done.stdout.lower()
