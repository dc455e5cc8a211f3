"""net/admission: who may connect."""

from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.net.admission import Admission, StreamLimits


@given(st.lists(st.tuples(st.sampled_from(["in", "out"]), st.integers(0, 5)), max_size=60))
def test_places_are_given_back(steps: list[tuple[str, int]]) -> None:
    """Whatever comes and goes, no limit is passed, and an empty house takes everybody."""
    limits = StreamLimits(connections=6, reserved=2, per_source=2)
    hosts = ["trunk", "a", "b", "c"]
    admission = Admission(limits, lambda host: host == "trunk")
    inside: dict[int, str] = {}
    for number, (step, choice) in enumerate(steps):
        host = hosts[choice % len(hosts)]
        if step == "in":
            if admission.refusal(host) is None:
                admission.admit(number, host)
                inside[number] = host
        elif inside:
            gone = list(inside)[choice % len(inside)]
            admission.release(gone)
            admission.release(gone)
            del inside[gone]
        strangers = [host for host in inside.values() if host != "trunk"]
        assert len(inside) <= 6
        assert len(strangers) <= 4
        assert all(strangers.count(host) <= 2 for host in strangers)
        if len(inside) < 6:
            assert admission.refusal("trunk") is None
    for number in inside:
        admission.release(number)
    assert all(admission.refusal(host) is None for host in hosts)
