"""The console in a real browser (Chromium, over its debugging pipe): signed out, signed in, and what its buttons do."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from siaga_pbx.web.app import create_app
from siaga_pbx.web.server import HttpServer
from tests.web_centre import AT, NUMBER, QUARANTINED, TOKEN, ACentre, Outage, SomeRecords, a_call

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed")

JSON = dict[str, object]


class Browser:
    """One page; its errors (exceptions, refused resources) are collected in `errors`."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        ours, theirs = os.pipe(), os.pipe()

        def to_3_and_4() -> None:
            os.dup2(os.dup(ours[0]), 3)
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                f"--user-data-dir={profile}",
                "--window-size=1400,1000",
                "--remote-debugging-pipe",
                "about:blank",
            ],
            preexec_fn=to_3_and_4,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._to = os.fdopen(ours[1], "wb")
        self._from = os.fdopen(theirs[0], "rb")
        self._last = 0
        self._buffer = b""
        self._session: str | None = None
        self.errors: list[str] = []
        targets = self._command("Target.getTargets")["targetInfos"]
        assert isinstance(targets, list)
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        session = self._command("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        assert isinstance(session, str)
        self._session = session
        for domain in ("Page", "Runtime", "Log"):
            self._command(f"{domain}.enable")

    def close(self) -> None:
        self._command("Browser.close")
        self._process.wait(10)
        self._to.close()
        self._from.close()

    def open(self, url: str) -> None:
        self._command("Page.navigate", url=url)

    def js(self, expression: str) -> object:
        """The value of an expression (of a promise: what it becomes)."""
        answer = self._command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        result = answer["result"]
        assert isinstance(result, dict)
        return result.get("value")

    def until(self, condition: str) -> None:
        """Wait until it holds in the page."""
        held = self.js(
            "new Promise((done) => { const end = Date.now() + 8000; const look = () => { let held = false;"
            f"try {{ held = Boolean({condition}); }} catch {{ /* not yet */ }}"
            "if (held || Date.now() > end) done(held); else setTimeout(look, 30); }; look(); })"
        )
        assert held, f"{condition}: never; the page shows: {self.text()}"

    def text(self) -> str:
        return str(self.js("document.body.innerText"))

    def click(self, selector: str) -> None:
        self.until(f"document.querySelector({json.dumps(selector)})")
        self.js(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, value: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(value)}; null")

    def _command(self, method: str, **params: object) -> JSON:
        self._last += 1
        message: JSON = {"id": self._last, "method": method, "params": params}
        if self._session is not None and not method.startswith("Browser."):
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                result = answer["result"]
                assert isinstance(result, dict)
                return result

    def _next(self) -> JSON:
        while b"\0" not in self._buffer:
            read = os.read(self._from.fileno(), 1 << 16)
            assert read, "the browser is gone"
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: JSON = json.loads(line)
        if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.errors.append(json.dumps(message["params"]))
        return message


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


def records() -> SomeRecords:
    sent = {"incident_id": "i1", "sequence": 1, "created_at": "2026-11-24T07:59:00.000Z", "published_at": AT}
    later = dict.fromkeys(("received_at", "accepted_at", "arrived_at", "cleared_at"))
    return SomeRecords(
        call_rows=[a_call(1, "abandoned"), a_call(2)],
        incident_rows=[{"id": "i1", "call_id": "c2", "opened_at": AT}],
        dispatch_rows=[
            {"id": "d1", "agency": "damkar", "state": "published", "message": {"category": "fire"}, **sent, **later}
        ],
    )


def walk(browser: Browser, url: str, centre: ACentre) -> None:
    """What a supervisor does."""
    browser.open(url)
    browser.until("document.querySelectorAll('#calls tr').length === 2")
    shown = browser.text()
    for word in ("Cirebon Siaga 112", "running", "trunk down", "Meja 1", "istirahat", "Trunk xl", "Sign in to see"):
        assert word in shown
    assert NUMBER not in str(browser.js("document.documentElement.outerHTML"))
    assert browser.js("document.querySelectorAll('.act button, .seats button, .list button').length") == 0
    first = browser.js("document.querySelector('#calls tr').innerText")
    assert "waiting" in str(first)  # who waits stands before who talks

    browser.click("#sign")
    browser.fill("#sign-dialog input", "not the token")
    browser.click("#sign-dialog button.main")
    browser.until("document.querySelector('#sign-dialog .fault').textContent === 'the token is wrong'")
    browser.fill("#sign-dialog input", TOKEN)
    browser.click("#sign-dialog button.main")
    browser.until(f"document.querySelector('#calls').innerText.includes('{NUMBER}')")
    browser.until("document.querySelector('#dispatches').innerText.includes('damkar')")
    browser.until(f"document.querySelector('#callbacks').innerText.includes('{NUMBER}')")

    browser.click("#calls tr:first-child button")
    browser.fill("#dispatch-dialog select", "health")
    browser.fill("#dispatch-dialog textarea", "Orang pingsan <b>")
    browser.fill("#dispatch-dialog input[name=people]", "1")
    browser.click("#dispatch-dialog input[name=protected]")
    browser.click("#dispatch-dialog button.main")
    browser.until("!document.querySelector('#dispatch-dialog').open")
    (order,) = centre.orders
    assert (order.call_id, order.category, order.note) == ("c1", "health", "Orang pingsan <b>")
    assert (order.people, order.protected) == (1, True)
    browser.until("document.querySelector('#said').innerText.includes('2 agencies')")

    browser.click("#seats li:first-child button")
    browser.fill("#reason-dialog input", "rapat")
    browser.click("#reason-dialog button.main")
    browser.until("document.querySelector('#seats li:first-child').innerText.includes('rapat')")
    assert centre.state.seats[0].state == "paused"
    browser.click("#seats li:first-child button")
    browser.until("document.querySelector('#seats li:first-child').innerText.includes('ready')")

    browser.until("document.querySelector('#quarantine').innerText.includes('<script>alert(1)</script>')")
    browser.click("#callbacks button")
    browser.fill("#reason-dialog input", "menelepon lagi")
    browser.click("#reason-dialog button.main")
    browser.until("!document.querySelector('#reason-dialog').open")
    assert centre.dismissed == [("c1", "menelepon lagi")]

    browser.open(url)  # the same tab: still signed in
    browser.until(f"document.querySelector('#calls').innerText.includes('{NUMBER}')")
    browser.click("#sign")
    browser.until(f"!document.documentElement.outerHTML.includes('{NUMBER}')")
    unexpected = [error for error in browser.errors if "401" not in error]  # the wrong token above
    assert unexpected == []


def test_a_supervisors_round(browser: Browser) -> None:
    async def check() -> None:
        centre = ACentre()
        app = create_app(
            centre,
            TOKEN,
            records=records(),
            outage=Outage,
            registry=CollectorRegistry(),
            recordings=Path("/nonexistent"),
            quarantined=lambda: QUARANTINED,
        )
        server = HttpServer(app, "127.0.0.1", 0)
        await server.start()
        host, port = server.address
        try:
            await asyncio.to_thread(walk, browser, f"http://{host}:{port}/", centre)
        finally:
            await server.stop()
        # No answer: what is shown is marked as old, not silently kept.
        await asyncio.to_thread(browser.until, "!document.querySelector('#lost').hidden")
        assert "no answer" in browser.text()

    uvloop.run(check())
