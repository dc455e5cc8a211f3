"""What a person is told when there is no connection to the broker."""

import pytest

from siaga_pbx.dispatch.bus_faults import explain


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)",
            "asks for a client",
        ),
        (
            "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)",
            "does not accept our [mqtt] certificate",
        ),
        ("EOF occurred in violation of protocol (_ssl.c:2427)", "ended the connection during TLS: its log says why"),
        ("[Errno 111] Connection refused", "nothing listens at here:1"),
        ("something new", "something new"),
    ],
)
def test_an_error_of_the_connection_in_words(error: str, expected: str) -> None:
    said = explain(error, "here:1")
    assert expected in said
    assert "_ssl.c" not in said
    assert "Errno" not in said
