from siaga_pbx.sip.errors import LocalError, RemoteError, SipError


def test_the_peers_error_says_why_and_what_to_answer() -> None:
    error = RemoteError("cseq", "unreadable", status=400)
    assert (error.reason, error.status, error.fatal, error.request) == ("cseq", 400, False, None)
    assert str(error) == "cseq: unreadable"
    assert str(RemoteError("empty")) == "empty"


def test_both_are_errors_of_the_protocol() -> None:
    assert issubclass(RemoteError, SipError)
    assert issubclass(LocalError, SipError)
    assert not issubclass(RemoteError, LocalError)
