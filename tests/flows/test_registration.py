"""Seats: REGISTER, digest, what a wrong password gets, and what survives (DESIGN 3, "Seats"; RFC 3261 10, 22)."""

from dataclasses import replace

import pytest

from siaga_pbx.sip.access import Seat, Trunk
from siaga_pbx.sip.binding import StoredBinding
from siaga_pbx.sip.digest import Challenge
from siaga_pbx.sip.events import Counted, Gone, IncomingCall, Registered, Unregistered
from siaga_pbx.sip.failures import LIMIT
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.options import SeatOptions
from tests.flows.bench import (
    OUR_SDP,
    SEAT,
    STRANGER,
    THEIR_SDP,
    TRUNK,
    US,
    Bench,
    Peer,
    credentials,
    register,
    settings,
    where,
)

URI = "sip:siaga.local"


class Phone(Peer):
    """A phone that registers step by step."""

    def register(self, *headers: tuple[str, str], to: str | None = None) -> Request:
        request = self.request("REGISTER", URI, headers=headers)
        request.headers.set("To", to or f"<sip:{self.user}@siaga.local>")
        return request

    def ask(self, to: str | None = None) -> Challenge:
        self.send(self.register(to=to))
        return Challenge.parse(self.bench.response(401).headers.get("WWW-Authenticate") or "")

    def answer_with(self, challenge: Challenge, password: str, nc: int = 1, *headers: tuple[str, str]) -> Request:
        answer = credentials(challenge, "REGISTER", URI, self.user, password, nc)
        return self.register(("Authorization", str(answer)), *headers)


def phone_of(bench: Bench, user: str = "101", flow: Flow = SEAT, call_id: str = "") -> Phone:
    bench.registrations += 1
    return Phone(bench, flow, user=user, call_id=call_id or f"reg-{user}", tag=f"p{bench.registrations}")


def test_a_phone_registers_and_is_told_what_it_has() -> None:
    bench = Bench()
    ok = register(bench, contact="<sip:abc-91@203.0.113.5:5062;ob>;+sip.instance=x")
    assert ok.status == 200
    assert ok.headers.get_all("Contact") == ["<sip:abc-91@203.0.113.5:5062;ob>;expires=120"]
    event = bench.event(Registered)
    assert (event.seat, event.fresh) == ("101", True)
    assert str(event.binding.contact) == "sip:abc-91@203.0.113.5:5062;ob"
    register(bench, contact="<sip:abc-91@203.0.113.5:5062;ob>")
    assert not bench.event(Registered).fresh
    assert [binding.seat for binding in bench.stack.bindings()] == ["101"]


@pytest.mark.parametrize(
    ("flow", "asked", "granted"),
    [
        (SEAT, 3600, 120),
        (SEAT, 90, 90),
        (SEAT, 5, 60),
        (SEAT, None, 120),
        (Flow("tcp", US, ("203.0.113.5", 40001), 3), 3600, 300),
        (Flow("tcp", US, ("203.0.113.5", 40001), 3), 20, 60),
    ],
)
def test_what_is_granted(flow: Flow, asked: int | None, granted: int) -> None:
    bench = Bench()
    ok = register(bench, flow, expires=asked)
    assert (ok.headers.get("Contact") or "").endswith(f";expires={granted}")
    bench.events.clear()
    bench.advance(granted - 1)
    assert bench.events == []
    bench.advance(2)
    assert bench.event(Unregistered) == Unregistered("101", Gone.EXPIRED)
    assert bench.stack.bindings() == []


@pytest.mark.parametrize(
    ("flow", "granted"), [(SEAT, 60), (Flow("tcp", US, ("203.0.113.5", 40001), 3), 300)], ids=["udp", "tcp"]
)
def test_behind_a_nat_a_way_that_is_lost_is_found_again_within_a_minute(flow: Flow, granted: int) -> None:
    """Over TCP its end is noticed."""
    bench = Bench()

    def from_inside(request: Request) -> None:
        request.headers.set(
            "Via", f"SIP/2.0/{flow.transport.upper()} 10.0.0.11:5060;branch=z9hG4bK{bench.registrations}x"
        )

    ok = register(bench, flow, contact="<sip:x@10.0.0.11:5060>", expires=3600, change=from_inside)
    assert (ok.headers.get("Contact") or "").endswith(f";expires={granted}")


def test_a_registration_by_expires_0_of_the_contact_is_removed() -> None:
    bench = Bench()
    register(bench)
    bench.events.clear()
    ok = register(bench, contact="<sip:101@203.0.113.5:5062>;expires=0", expires=None)
    assert ok.headers.get("Contact") is None
    assert bench.event(Unregistered) == Unregistered("101", Gone.REMOVED)
    bench.advance(40)
    assert bench.is_empty()


def test_a_star_removes_all_and_only_with_expires_0() -> None:
    bench = Bench()
    register(bench, contact="<sip:a@203.0.113.5:5062>")
    register(bench, Flow("udp", US, ("203.0.113.6", 5062)), contact="<sip:b@203.0.113.6:5062>")
    bench.events.clear()
    assert register(bench, contact="*", expires=60).status == 400
    assert bench.events == []
    assert register(bench, contact="*", expires=0).status == 200
    assert bench.event(Unregistered) == Unregistered("101", Gone.REMOVED)


def test_a_register_without_a_contact_lists_what_there_is() -> None:
    bench = Bench()
    register(bench)
    ok = register(bench, change=lambda request: request.headers.remove("Contact"))
    assert ok.headers.get_all("Contact") == ["<sip:101@203.0.113.5:5062>;expires=120"]


def test_of_two_phones_the_one_that_registered_last_is_called() -> None:
    bench = Bench()
    other = Flow("udp", US, ("203.0.113.6", 5062))
    register(bench, contact="<sip:a@203.0.113.5:5062>")
    register(bench, other, contact="<sip:b@203.0.113.6:5062>")
    assert [str(binding.contact) for binding in bench.stack.bindings()] == ["sip:b@203.0.113.6:5062"]
    bench.events.clear()
    register(bench, other, contact="<sip:b@203.0.113.6:5062>;expires=0")
    assert [str(binding.contact) for binding in bench.stack.bindings()] == ["sip:a@203.0.113.5:5062"]
    assert not [event for event in bench.events if isinstance(event, Unregistered)]


def test_a_phone_that_starts_anew_replaces_what_it_left() -> None:
    bench = Bench()
    register(bench, contact="<sip:random-1@203.0.113.5:5062>")
    register(bench, contact="<sip:random-2@203.0.113.5:5062>")
    assert [each.contact for each in bench.stack.snapshot(bench.now)] == ["sip:random-2@203.0.113.5:5062"]


def test_contacts_of_a_seat_are_bounded() -> None:
    bench = Bench()
    for port in range(6000, 6010):
        register(bench, Flow("udp", US, ("203.0.113.5", port)), contact=f"<sip:c{port}@203.0.113.5:{port}>")
    assert len(bench.stack.snapshot(bench.now)) == 4


def test_a_contact_that_is_ourselves_or_no_sip_address_is_refused() -> None:
    for contact in ("<sip:101@192.0.2.10:5060>", "<tel:+62811>", "<sip:101@>", "garbage <"):
        bench = Bench()
        assert register(bench, contact=contact).status == 400
        assert bench.stack.bindings() == []


def test_pyvoip_registers() -> None:
    """It re-uses branch and Call-ID with a new CSeq, puts ;transport=UDP into the digest-uri, and has no qop."""
    bench = Bench()
    phone = phone_of(bench)
    first = phone.register()
    phone.send(first)
    challenge = Challenge.parse(bench.response(401).headers.get("WWW-Authenticate") or "")
    old = Challenge(challenge.realm, challenge.nonce, "md5", ())
    answer = credentials(old, "REGISTER", "sip:192.0.2.10;transport=UDP", "101", "rahasia")
    phone.tag = "another"
    second = phone.register(("Authorization", str(answer)))
    second.headers.set("Via", first.headers.get("Via") or "")
    phone.send(second)
    bench.response(200)
    assert bench.event(Registered).seat == "101"


def test_pyvoip_starts_anew_with_the_call_id_and_cseq_of_its_last_life() -> None:
    bench = Bench()
    for _ in range(2):
        phone = phone_of(bench)
        phone.cseq = 0
        phone.send(phone.answer_with(phone.ask(), "rahasia"))
        bench.response(200)
        bench.advance(40)


def test_a_register_that_comes_again_gets_the_same_answer_and_the_nonce_is_not_used_twice() -> None:
    bench = Bench()
    phone = phone_of(bench)
    request = phone.answer_with(phone.ask(), "rahasia")
    phone.send(request)
    ok = bench.response(200)
    phone.send(request)
    assert bytes(bench.response(200)) == bytes(ok)
    bench.event(Registered)


def test_the_count_of_a_nonce_must_rise() -> None:
    bench = Bench()
    phone = phone_of(bench)
    challenge = phone.ask()
    assert challenge.qop == ("auth",)
    for nc in (1, 2, 5):
        phone.send(phone.answer_with(challenge, "rahasia", nc))
        bench.response(200)
    phone.send(phone.answer_with(challenge, "rahasia", 5))
    again = Challenge.parse(bench.response(401).headers.get("WWW-Authenticate") or "")
    assert again.stale
    assert again.nonce != challenge.nonce
    phone.send(phone.answer_with(again, "rahasia"))
    bench.response(200)


def test_an_old_or_foreign_nonce_is_stale_and_nobodys_fault() -> None:
    bench = Bench()
    phone = phone_of(bench)
    old = phone.ask()
    bench.advance(301)
    for challenge in (old, Challenge("siaga.local", "of-another-life")):
        phone.send(phone.answer_with(challenge, "rahasia"))
        assert Challenge.parse(bench.response(401).headers.get("WWW-Authenticate") or "").stale
    assert bench.counted == []


def test_who_answers_another_nonce_than_his_learns_nothing_and_is_not_counted() -> None:
    """Made up, or got at an address that a forged source is not: whatever the password, the nonce is stale."""
    bench = Bench()
    theirs = phone_of(bench, flow=STRANGER).ask()
    for challenge in (Challenge("siaga.local", "made-up"), theirs):
        answers = []
        for password in ("guess", "rahasia"):
            phone = phone_of(bench)
            phone.send(phone.answer_with(challenge, password))
            answer = bench.response(401)
            answers.append([(name, len(value)) for name, value in answer.headers.items()])
            assert Challenge.parse(answer.headers.get("WWW-Authenticate") or "").stale
        assert answers[0] == answers[1]
    assert bench.counted == []


def guess(bench: Bench, phone: Phone, password: str = "guess") -> int | None:
    """The status that one try gets, None for silence."""
    phone.send(phone.register())
    if not bench.sent:
        return None
    challenge = Challenge.parse(bench.response(401).headers.get("WWW-Authenticate") or "")
    phone.send(phone.answer_with(challenge, password))
    if not bench.sent:
        return None
    message = bench.sent.pop()[1]
    assert isinstance(message, Response)
    return message.status


def test_wrong_passwords_get_a_fresh_challenge_then_silence_that_grows() -> None:
    bench = Bench()
    phone = phone_of(bench)
    assert [guess(bench, phone) for _ in range(LIMIT - 1)] == [401] * (LIMIT - 1)
    for silence in (30, 60, 120, 240):
        assert guess(bench, phone) is None
        bench.advance(silence - 1)
        assert guess(bench, phone, "rahasia") is None
        bench.advance(1.1)
    assert guess(bench, phone, "rahasia") == 200
    assert guess(bench, phone) == 401


def test_silence_is_for_that_user_at_that_address_only() -> None:
    bench = Bench()
    for _ in range(LIMIT):
        guess(bench, phone_of(bench))
    assert guess(bench, phone_of(bench)) is None
    same_nat = Flow("udp", US, (SEAT.remote[0], 7000))
    assert guess(bench, phone_of(bench, "101", same_nat), "rahasia") is None
    assert guess(bench, phone_of(bench, "102", same_nat), "sangat-rahasia") == 200
    assert guess(bench, phone_of(bench, "101", STRANGER), "rahasia") == 200


def test_a_phone_that_is_registered_is_not_locked_out_by_its_neighbour() -> None:
    """Nor when the NAT gave it another port, or its connection broke and it has another; nor another seat there."""
    address = SEAT.remote[0]
    for flow in (SEAT, Flow("tcp", US, (address, 40001), 3)):
        bench = Bench()
        register(bench, flow)
        neighbour = phone_of(bench, "101", Flow("udp", US, (address, 7000)), "of-the-neighbour")
        for _ in range(LIMIT + 2):
            guess(bench, neighbour)
        assert guess(bench, neighbour, "rahasia") is None
        assert guess(bench, phone_of(bench, "101", flow), "rahasia") == 200
        moved = Flow("udp", US, (address, 7001)) if flow is SEAT else Flow("tcp", US, (address, 40002), 4)
        assert guess(bench, phone_of(bench, "101", moved), "rahasia") == 200
        assert guess(bench, phone_of(bench, "102", Flow("udp", US, (address, 7002))), "sangat-rahasia") == 200
        assert guess(bench, phone_of(bench, "101", STRANGER), "guess") == 401, "elsewhere the count begins anew"


@pytest.mark.parametrize(
    "to", ["<sip:999@siaga.local>", "<sip:101@elsewhere.example>", "<tel:+62811>", "<sip:siaga.local>"]
)
def test_an_unknown_user_looks_like_a_known_one(to: str) -> None:
    """Same challenges, same statuses, same silence; only what is random differs."""
    seen = []
    for address in ("<sip:101@siaga.local>", to):
        bench = Bench()
        phone = phone_of(bench)
        answers: list[object] = []
        for _ in range(LIMIT + 2):
            phone.send(phone.register(to=address))
            if bench.sent:
                refusal = bench.response(401)
                challenge = Challenge.parse(refusal.headers.get("WWW-Authenticate") or "")
                answers.append([(name, len(value)) for name, value in refusal.headers.items() if name != "To"])
                made = credentials(challenge, "REGISTER", URI, "101", "guess")
                phone.send(phone.register(("Authorization", str(made)), to=address))
            answers.append(bench.take())
        seen.append(answers)
    assert seen[0] == seen[1]


def test_who_only_asks_costs_no_memory() -> None:
    bench = Bench()
    for number in range(100):
        phone = phone_of(bench, f"user{number}", STRANGER)
        phone.send(phone.register())
    assert bench.take() == ["401 REGISTER"] * 100
    assert bench.is_empty()


def test_a_wrong_password_that_comes_again_counts_once() -> None:
    bench = Bench()
    phone = phone_of(bench)
    request = phone.answer_with(phone.ask(), "guess")
    for _ in range(LIMIT + 3):
        phone.send(request)
    assert bench.take() == ["401 REGISTER"] * (LIMIT + 3)
    assert bench.counted.count(Counted("auth_failed", "wrong_password")) == 1


def test_both_algorithms_are_offered_the_stronger_first_and_a_seat_may_have_its_own() -> None:
    seats = (SeatOptions("101", "rahasia"), SeatOptions("102", "sangat-rahasia", ("sha-256",)))
    bench = Bench(settings(digest=("md5", "sha-256"), seats=seats))
    for user, algorithms in (("101", ["sha-256", "md5"]), ("102", ["sha-256"]), ("999", ["sha-256", "md5"])):
        phone = phone_of(bench, user)
        phone.send(phone.register())
        lines = bench.response(401).headers.get_all("WWW-Authenticate")
        assert [Challenge.parse(line).algorithm for line in lines] == algorithms
    phone = phone_of(bench, "102")
    phone.send(phone.answer_with(phone.ask(), "sangat-rahasia"))
    bench.response(200)


def test_a_seat_with_an_algorithm_of_its_own_is_not_let_in_by_a_weaker_one() -> None:
    bench = Bench(settings(seats=(SeatOptions("101", "rahasia", ("sha-256",)),)))
    phone = phone_of(bench)
    challenge = phone.ask()
    phone.send(phone.answer_with(Challenge(challenge.realm, challenge.nonce, "md5"), "rahasia"))
    bench.response(401)


def test_a_seat_may_register_at_an_own_address_and_sign_with_its_full_name() -> None:
    bench = Bench()
    phone = phone_of(bench)
    challenge = phone.ask("<sip:101@192.0.2.10>")
    answer = credentials(challenge, "REGISTER", "sip:192.0.2.10", "101", "rahasia")
    phone.send(phone.register(("Authorization", str(answer)), to="<sip:101@192.0.2.10>"))
    bench.response(200)
    full = credentials(phone.ask(), "REGISTER", URI, "101@siaga.local", "rahasia")
    phone.send(phone.register(("Authorization", str(full))))
    bench.response(200)


def test_one_seat_cannot_register_another() -> None:
    bench = Bench()
    phone = phone_of(bench)
    to = "<sip:102@siaga.local>"
    answer = credentials(phone.ask(to), "REGISTER", URI, "101", "rahasia")
    phone.send(phone.register(("Authorization", str(answer)), to=to))
    bench.response(401)


def test_a_trunks_address_may_be_a_seats_too() -> None:
    bench = Bench()
    assert register(bench, TRUNK).status == 200
    bench.events.clear()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP))
    bench.response(100)
    assert bench.event(IncomingCall).peer == Trunk("telkomsel")


# Over a restart, and a reload


def test_bindings_are_stored_and_restored() -> None:
    bench = Bench()
    tcp = Flow("tcp", US, ("203.0.113.7", 40001), 3)
    register(bench, contact="<sip:r@203.0.113.5:5062>")
    register(bench, tcp, "102", "sangat-rahasia", contact="<sip:t@203.0.113.7:5070;transport=tcp>", expires=300)
    bench.advance(50)
    stored = bench.stack.snapshot(bench.now)
    assert [(each.seat, round(each.expires_in)) for each in stored] == [("101", 70), ("102", 250)]

    after = Bench(seed=2, now=5.0)
    after.do(after.stack.restore([*stored, gone(stored[0])], after.now))
    assert [(event.seat, event.fresh) for event in after.events if isinstance(event, Registered)] == [
        ("101", True),
        ("102", True),
    ]
    after.events.clear()
    caller = NameAddr.parse("<sip:112@siaga.local>")
    after.do(after.stack.invite_seat("a", "101", caller, OUR_SDP, after.now))
    after.do(after.stack.invite_seat("b", "102", caller, OUR_SDP, after.now))
    assert [where(way) for way, _ in after.sent] == [("203.0.113.5", 5062), ("203.0.113.7", 5070)]
    after.advance(71)
    assert Unregistered("101", Gone.EXPIRED) in after.events


def test_a_stored_binding_does_not_displace_what_was_registered_meanwhile() -> None:
    """A WebSocket phone has one Contact whatever its connection; stored ones are read after the first packet."""
    contact, flow = "<sip:x@b3k.invalid;transport=ws>", Flow("wss", US, ("203.0.113.7", 40001), 3)
    bench = Bench()
    register(bench, flow, contact=contact)
    stored = bench.stack.snapshot(bench.now)
    after, now_over = Bench(seed=2), replace(flow, connection=1)
    register(after, now_over, contact=contact)
    after.do(after.stack.restore(stored, after.now))
    binding = after.stack.binding("101")
    assert binding is not None
    assert binding.source == now_over


def gone(stored: StoredBinding) -> StoredBinding:
    return StoredBinding(
        "no-seat", stored.contact, stored.transport, stored.local, stored.remote, True, 60.0, stored.call_id, 1
    )


def test_a_seat_that_is_configured_no_more_is_gone() -> None:
    bench = Bench()
    register(bench)
    register(bench, Flow("udp", US, ("203.0.113.6", 5062)), "102", "sangat-rahasia")
    bench.events.clear()
    bench.do(bench.stack.configure(settings(seats=(SeatOptions("102", "sangat-rahasia"),)), bench.now))
    assert bench.event(Unregistered) == Unregistered("101", Gone.UNCONFIGURED)
    phone = phone_of(bench)
    phone.send(phone.answer_with(phone.ask(), "rahasia"))
    bench.response(401)


# Calls of a seat's own


def test_a_seats_call_is_challenged_then_taken() -> None:
    bench = Bench()
    register(bench)
    bench.events.clear()
    phone = Peer(bench, SEAT, user="101", call_id="own-call")
    first = phone.request("INVITE", "sip:*2@siaga.local", sdp=THEIR_SDP)
    phone.send(first)
    refusal = bench.response(407)
    phone.our_tag = refusal.to.tag or ""
    phone.ack(branch=first.via.branch)
    phone.our_tag = ""
    challenge = Challenge.parse(refusal.headers.get("Proxy-Authenticate") or "")
    answer = credentials(challenge, "INVITE", "sip:siaga.local;transport=UDP", "101", "rahasia")
    phone.send(
        phone.request("INVITE", "sip:*2@siaga.local", sdp=THEIR_SDP, headers=(("Proxy-Authorization", str(answer)),))
    )
    bench.response(100)
    call = bench.event(IncomingCall)
    assert call.peer == Seat("101")
    assert str(call.request.uri) == "sip:*2@siaga.local"
    bench.advance(40)
    assert bench.events == []


def test_a_seats_call_with_a_wrong_password_is_counted_and_challenged_afresh() -> None:
    bench = Bench()
    register(bench)
    bench.events.clear()
    phone = Peer(bench, SEAT, user="101", call_id="own-call")
    phone.send(phone.request("INVITE", sdp=THEIR_SDP))
    challenge = Challenge.parse(bench.response(407).headers.get("Proxy-Authenticate") or "")
    answer = credentials(challenge, "INVITE", "sip:siaga.local", "101", "guess")
    phone.send(phone.request("INVITE", sdp=THEIR_SDP, headers=(("Proxy-Authorization", str(answer)),)))
    bench.response(407)
    assert bench.events == []
    assert bench.counted == [Counted("auth_failed", "wrong_password")]


def test_the_source_of_an_expired_registration_is_a_stranger() -> None:
    bench = Bench()
    register(bench)
    phone = Peer(bench, SEAT, user="101", call_id="own-call")
    phone.send(phone.request("OPTIONS"))
    bench.response(200)
    bench.advance(121)
    phone.send(phone.request("OPTIONS"))
    assert bench.take() == []
