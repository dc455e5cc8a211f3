"""Bindings and counters by themselves; REGISTER itself is in tests/flows/test_registration.py."""

from siaga_pbx.sip.binding import Binding
from siaga_pbx.sip.bindings import MAX_CONTACTS, Bindings
from siaga_pbx.sip.deadlines import Alarm, Deadlines
from siaga_pbx.sip.events import Gone
from siaga_pbx.sip.failures import FORGET_S, LIMIT, LONGEST_SILENCE_S, MAX_COUNTS, Failures
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.uri import Uri

US = ("192.0.2.10", 5060)


def flow(port: int, connection: int | None = None) -> Flow:
    return Flow("udp" if connection is None else "tcp", US, ("203.0.113.5", port), connection)


def binding(contact: str, source: Flow, expires_at: float = 100.0, seat: str = "101") -> Binding:
    return Binding(seat, Uri.parse(contact), source, True, expires_at, "c", 1)


def bindings() -> tuple[Bindings, list[tuple[str, Gone]], Deadlines]:
    gone: list[tuple[str, Gone]] = []
    deadlines = Deadlines()
    return Bindings(deadlines, lambda seat, cause: gone.append((seat, cause))), gone, deadlines


def test_sources_follow_their_bindings() -> None:
    table, gone, _ = bindings()
    table.put(binding("sip:a@203.0.113.5", flow(1)))
    table.put(binding("sip:a@203.0.113.5", flow(2)))
    assert (table.at(flow(1)), table.at(flow(2))) == ([], ["101"])
    table.put(binding("sip:x@203.0.113.5", flow(2), seat="102"))
    assert table.at(flow(2)) == ["101", "102"]
    table.remove("101", None, Gone.REMOVED)
    table.remove("101", None, Gone.REMOVED)
    assert table.at(flow(2)) == ["102"]
    assert gone == [("101", Gone.REMOVED)]


def test_the_oldest_contact_goes_when_there_are_too_many() -> None:
    table, gone, _ = bindings()
    for port in range(MAX_CONTACTS + 1):
        table.put(binding(f"sip:a{port}@203.0.113.5", flow(port)))
    assert [str(each.contact) for each in table.of("101")] == [
        f"sip:a{port}@203.0.113.5" for port in range(1, MAX_CONTACTS + 1)
    ]
    assert table.at(flow(0)) == []
    assert gone == []


def test_each_contact_expires_by_itself_and_a_refresh_moves_it() -> None:
    table, gone, deadlines = bindings()
    table.put(binding("sip:a@203.0.113.5", flow(1), 100))
    table.put(binding("sip:b@203.0.113.5", flow(2), 90))
    table.put(binding("sip:a@203.0.113.5", flow(1), 200))
    expired = []
    while (owner := deadlines.pop_due(1000)) is not None:
        assert isinstance(owner, Alarm)
        assert owner.at is not None
        expired.append(owner.at)
        owner.ring(owner.at)
    assert expired == [90, 200]
    assert gone == [("101", Gone.EXPIRED)]
    assert table.seats() == []


def test_a_connection_that_closes_leaves_the_binding_to_be_reached_anew() -> None:
    table, _, _ = bindings()
    table.put(binding("sip:a@203.0.113.5:5070;transport=tcp", flow(40001, 7)))
    table.connection_closed(flow(40001, 7))
    assert table.at(flow(40001, 7)) == []
    in_use = table.in_use("101")
    assert in_use is not None
    assert in_use.source.connection is None
    replaced = table.put(binding("sip:a@203.0.113.5:5071;transport=tcp", flow(40002, 8)))
    assert replaced == [in_use]
    assert len(table.of("101")) == 1


def test_a_connection_found_dead_late_does_not_come_before_the_phones_new_one() -> None:
    table, gone, deadlines = bindings()
    table.put(binding("sip:101@192.0.2.5:40001;transport=tcp", flow(40001, 7)))
    newer = binding("sip:101@192.0.2.5:40002;transport=tcp", flow(40002, 8))
    table.put(newer)
    table.connection_closed(flow(40001, 7))
    assert table.in_use("101") == newer
    assert [each.source.connection for each in table.of("101")] == [None, 8]
    while (owner := deadlines.pop_due(1000)) is not None:
        assert isinstance(owner, Alarm)
        assert owner.at is not None
        owner.ring(owner.at)
    assert table.of("101") == []
    assert gone == [("101", Gone.EXPIRED)]


def test_a_count_is_forgotten_in_time() -> None:
    failures = Failures()
    for _ in range(LIMIT - 1):
        failures.failed("101", "h", 0.0)
    failures.failed("101", "h", FORGET_S + 1)
    assert not failures.is_silent("101", "h", FORGET_S + 1)


def test_silence_does_not_grow_without_bound() -> None:
    failures = Failures()
    now = 0.0
    for _ in range(30):
        failures.failed("101", "h", now)
        now += LONGEST_SILENCE_S
    failures.failed("101", "h", now)
    assert failures.is_silent("101", "h", now + LONGEST_SILENCE_S - 1)
    assert not failures.is_silent("101", "h", now + LONGEST_SILENCE_S)


def test_counts_are_bounded() -> None:
    failures = Failures()
    for number in range(MAX_COUNTS + 100):
        failures.failed("101", f"h{number}", 0.0)
    assert len(failures) == MAX_COUNTS
