"""The gate: who may come in with what (DESIGN.md 8)."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from siaga_pbx.web.app import create_app
from siaga_pbx.web.gate import MAX_BODY, OPEN_TO_THIS_MACHINE, Access, access
from tests.web_centre import TOKEN, ACentre, Outage, SomeRecords

SIGNED_IN = {"authorization": f"Bearer {TOKEN}"}
SHOWS_CALLERS = (
    "/api/v1/calls",
    "/api/v1/calls/c1",
    "/api/v1/calls/c1/recording",
    "/api/v1/incidents",
    "/api/v1/dispatches",
    "/api/v1/callbacks",
)


def ask(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | Sequence[tuple[bytes, bytes]] | None = None,
    content: bytes | AsyncIterator[bytes] | None = None,
    listen: str = "127.0.0.1",
    client: str = "127.0.0.1",
    host: str = "127.0.0.1:8112",
    names: tuple[str, ...] = (),
) -> httpx.Response:
    app = create_app(
        ACentre(),
        TOKEN,
        records=SomeRecords(),
        outage=Outage,
        registry=CollectorRegistry(),
        recordings=Path("/nonexistent"),
        host=listen,
        names=names,
    )

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(client, 50000))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as http:
            return await http.request(method, path, headers=headers, content=content)

    return asyncio.run(answer())


@pytest.mark.parametrize("path", sorted(OPEN_TO_THIS_MACHINE))
def test_metrics_health_and_status_are_open_to_this_machine(path: str) -> None:
    assert ask("GET", path).status_code == 200


@pytest.mark.parametrize("path", SHOWS_CALLERS)
def test_what_shows_a_caller_needs_the_token(path: str) -> None:
    refused = ask("GET", path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["content-type"] == "application/problem+json"
    assert ask("GET", path, headers=SIGNED_IN).status_code in (200, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/-/reload",
        "/api/v1/calls/c1/dispatches",
        "/api/v1/seats/101/pause",
        "/api/v1/seats/101/ready",
        "/api/v1/callbacks/c1/dismiss",
        "/api/v1/status",
        "/",
    ],
)
def test_every_post_needs_the_token(path: str) -> None:
    assert ask("POST", path).status_code == 401
    assert ask("POST", path, headers=SIGNED_IN).status_code != 401


def test_what_is_not_known_is_closed() -> None:
    assert access("GET", "/api/v1/anything") is Access.TOKEN
    assert access("DELETE", "/metrics") is Access.TOKEN
    assert ask("GET", "/api/v1/anything").status_code == 401
    assert ask("GET", "/api/v1/anything", headers=SIGNED_IN).status_code == 404


@pytest.mark.parametrize(
    "given",
    [f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", "Bearer", f"Basic {TOKEN}", TOKEN, "Bearer t\u00f6ken"],
)
def test_a_wrong_token_is_refused_even_where_none_is_needed(given: str) -> None:
    answer = ask("GET", "/api/v1/status", headers=[(b"authorization", given.encode("latin-1"))])
    assert answer.status_code == 401
    assert "wrong" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1:8112", "localhost:8112", "localhost", "[::1]:8112", "LOCALHOST"])
def test_this_machine_may_be_named_so(host: str) -> None:
    assert ask("GET", "/-/healthy", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8112", "192.0.2.7", "127.0.0.1.evil.example", "", "["])
def test_another_host_name_is_misdirected_even_with_the_token(host: str) -> None:
    """A page elsewhere whose name is made to resolve to us (DNS rebinding) gets nothing, not even the console."""
    for path in ("/metrics", "/", "/api/v1/calls"):
        assert ask("GET", path, headers={"host": host, **SIGNED_IN}).status_code == 421


@pytest.mark.parametrize("path", sorted(OPEN_TO_THIS_MACHINE))
def test_beyond_loopback_everything_needs_the_token(path: str) -> None:
    for headers, status in (({}, 401), (SIGNED_IN, 200)):
        answer = ask("GET", path, headers=headers, listen="192.0.2.7", client="192.0.2.99", host="192.0.2.7:8112")
        assert answer.status_code == status


def test_on_any_address_only_addresses_and_names_told_are_ours() -> None:
    def status(host: str, names: tuple[str, ...] = ()) -> int:
        return ask("GET", "/-/healthy", listen="0.0.0.0", host=host, headers=SIGNED_IN, names=names).status_code

    assert status("192.0.2.7:8112") == 200
    assert status("siaga.example") == 421
    assert status("siaga.example", ("Siaga.Example",)) == 200


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
def test_what_came_through_a_proxy_is_not_this_machine(header: str) -> None:
    assert ask("GET", "/metrics", headers={header: "192.0.2.99"}).status_code == 401


def test_another_machine_is_not_this_machine_whatever_it_calls_us() -> None:
    assert ask("GET", "/metrics", client="192.0.2.99").status_code == 401


def test_the_shell_of_the_console_is_open_and_holds_no_data() -> None:
    beyond = ask("GET", "/", listen="192.0.2.7", client="192.0.2.99", host="192.0.2.7:8112")
    assert beyond.status_code == 200
    assert "<title>" in beyond.text


def test_every_answer_carries_the_security_headers_and_is_never_cached() -> None:
    answers = [
        ask("GET", "/"),
        ask("GET", "/metrics"),
        ask("GET", "/static/none"),
        ask("GET", "/api/v1/calls"),
        ask("GET", "/", headers={"host": "evil.example"}),
    ]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    async def never_read() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    headers = {**SIGNED_IN, "content-length": str(MAX_BODY + 1)}
    answer = ask("POST", "/api/v1/calls/c1/dispatches", headers=headers, content=never_read())
    assert answer.status_code == 413


def test_a_body_that_turns_out_too_large_is_refused() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 1000 + 1):
            yield b" " * 1000

    answer = ask(
        "POST",
        "/api/v1/calls/c1/dispatches",
        headers={**SIGNED_IN, "content-type": "application/json"},
        content=chunks(),
    )
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("length", ["x", "-1", "1_0", "\u0663"])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    headers = [(b"authorization", SIGNED_IN["authorization"].encode()), (b"content-length", length.encode())]
    assert ask("POST", "/-/reload", headers=headers, content=b"").status_code == 413
