"""logs: the thread and its bound, ids of calls, masked numbers, JSON and lines for people."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.logs import LogWriter, call_logged, mask_number, mask_numbers, mask_text, start_logging

NUMBER = "+6281234567890"


class Pipe:
    """What the logs are written to, and what came out of it."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def text(self) -> str:
        """All that was written; closes the pipe."""
        os.close(self.write_end)
        with os.fdopen(self.read_end, encoding="utf-8") as out:
            return out.read()


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is the process's own; every test gives it back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines_of(pipe: Pipe, writer: LogWriter) -> list[dict[str, Any]]:
    writer.close()
    return [json.loads(line) for line in pipe.text().splitlines()]


def test_a_line_is_json_with_the_id_of_its_call(pipe: Pipe) -> None:
    writer = start_logging(pipe.write_end)
    log = structlog.get_logger()
    with call_logged("019a-call"):
        log.info("queue.offered", seat="101", since=1.5, note="Kebakaran é Jl. Siliwangi\nbaris")
        structlog.get_logger().warning("media.silent")
    log.info("after")
    first, second, third = lines_of(pipe, writer)
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "queue.offered",
        "level": "info",
        "call_id": "019a-call",
        "seat": "101",
        "since": 1.5,
        "note": "Kebakaran é Jl. Siliwangi\nbaris",
    }
    assert second["call_id"] == "019a-call"
    assert "call_id" not in third


def test_levels_below_are_left_out(pipe: Pipe) -> None:
    writer = start_logging(pipe.write_end, level=logging.WARNING)
    log = structlog.get_logger()
    log.info("no")
    log.debug("no")
    log.warning("yes")
    assert [line["event"] for line in lines_of(pipe, writer)] == ["yes"]


def test_an_exception_is_text_without_values_and_masked(pipe: Pipe) -> None:
    writer = start_logging(pipe.write_end)
    password = "rahasia"
    try:
        raise ValueError(f"sip:{NUMBER}@192.0.2.1 {len(password)}")
    except ValueError:
        structlog.get_logger().exception("net.fault", where="sip")
    [line] = lines_of(pipe, writer)
    assert "Traceback" in line["exception"]
    assert "sip:+**********890@192.0.2.1" in line["exception"]
    assert "rahasia" not in line["exception"]


def test_what_libraries_log_comes_the_same_way(pipe: Pipe) -> None:
    writer = start_logging(pipe.write_end)
    logging.getLogger("aiomqtt").info("no")
    logging.getLogger("aiomqtt").warning("lost %s", NUMBER)
    try:
        raise OSError("disk")
    except OSError:
        logging.getLogger("asyncio").exception("task")
    logging.getLogger("odd").error("%d", "not a number")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    first, second, third, fourth = lines_of(pipe, writer)
    assert (first["event"], first["logger"], first["level"]) == ("lost +**********890", "aiomqtt", "warning")
    assert "OSError: disk" in second["exception"]
    assert third["event"] == "logs.unreadable"
    assert fourth["logger"] == "py.warnings"


def test_a_terminal_gets_lines_for_people(pipe: Pipe) -> None:
    writer = start_logging(pipe.write_end, terminal=True)
    structlog.get_logger().info("queue.offered", seat="101", caller_number=NUMBER)
    writer.close()
    text = pipe.text()
    assert "queue.offered" in text
    assert "+**********890" in text
    with pytest.raises(ValueError):
        json.loads(text)


# The thread


def test_a_pipe_that_nobody_reads_blocks_nobody_and_the_loss_is_told(pipe: Pipe) -> None:
    counted: list[int] = []
    writer = start_logging(pipe.write_end, capacity=100, on_dropped=counted.append)
    log = structlog.get_logger()
    begin = time.monotonic()
    for number in range(2000):
        log.info("line", serial=number, filler="x" * 500)
    assert time.monotonic() - begin < 5
    assert writer.dropped == sum(counted) > 1000
    text: list[str] = []
    reading = threading.Thread(target=lambda: text.append(pipe_text(pipe)))
    reading.start()
    writer.close()
    os.close(pipe.write_end)
    reading.join(10)
    lines = [json.loads(line) for line in text[0].splitlines()]
    told = sum(line["lines"] for line in lines if line["event"] == "logs.dropped")
    numbers = [line["serial"] for line in lines if line["event"] == "line"]
    assert told == writer.dropped
    assert len(numbers) + told == 2000
    assert numbers == sorted(numbers)


def pipe_text(pipe: Pipe) -> str:
    with os.fdopen(pipe.read_end, encoding="utf-8") as out:
        return out.read()


def test_a_pipe_that_was_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)
    writer = LogWriter(pipe.write_end)
    text: list[str] = []
    reading = threading.Thread(target=lambda: text.append(pipe_text(pipe)))
    for number in range(500):
        writer.write(f"{number} {'x' * 500}")
    reading.start()
    writer.close(10)
    os.close(pipe.write_end)
    reading.join(10)
    assert [int(line.split()[0]) for line in text[0].splitlines()] == list(range(500))


def test_a_reader_that_is_gone_is_counted(pipe: Pipe) -> None:
    os.close(pipe.read_end)
    writer = LogWriter(pipe.write_end)
    writer.write("into the void")
    writer.close()
    os.close(pipe.write_end)
    assert writer.dropped >= 1


def test_after_close_lines_are_dropped(pipe: Pipe) -> None:
    writer = LogWriter(pipe.write_end)
    writer.write("in time")
    writer.close()
    writer.close()
    writer.write("late")
    assert pipe.text() == "in time\n"
    assert writer.dropped == 1


def test_a_process_ends_though_nobody_reads_its_log() -> None:
    program = """
import structlog
from siaga_pbx.logs import start_logging
logs = start_logging()
for number in range(5000):
    structlog.get_logger().info("line", filler="x" * 200)
logs.close(0.2)
"""
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as process:
        assert process.wait(20) == 0


# Masking


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        (NUMBER, "+**********890"),
        ("0231-206112", "****-***112"),
        ("206112", "***112"),
        ("112", "112"),
        ("anonymous", "anonymous"),
        ("", ""),
    ],
)
def test_the_last_three_digits_stay(number: str, masked: str) -> None:
    assert mask_number(number) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"from {NUMBER}.", "from +**********890."),
        ("<tel:0812-3456-789>", "<tel:****-****-789>"),
        ("tel:+62.812.3456", "tel:+**.***.*456"),
        ("<sip:206112@192.0.2.1:5060>", "<sip:***112@192.0.2.1:5060>"),
        ("sips:081234567890;user=phone", "sips:*********890;user=phone"),
        ("sip:%2B6281234567890@x", "sip:%2B**********890@x"),
        ("+62 812 345 6789", "+** *** *** *789"),
        ('"081234567890"', '"*********890"'),
    ],
)
def test_a_number_in_a_text_is_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "192.168.100.200:50600",
        "[2001:db8:1234:5678::1]:5060",
        "019a1b2c-1234-7567-8123-123456789012",
        "2026-11-24T00:00:00.000Z",
        "2026-11-24 00:00:00",
        "sip:112@siaga.local",
        "sip:101@192.0.2.1:5060;transport=tcp",
        "urn:service:sos",
        "ports 30000 to 31999",
        "z9hG4bK1234567890",
        "0.1234567",
    ],
)
def test_what_is_no_number_stays(text: str) -> None:
    assert mask_text(text) == text


def test_values_are_masked_wherever_they_stand() -> None:
    masked = mask_numbers(
        None,
        "info",
        {
            "event": f"call of {NUMBER}",
            "caller_number": "20611",
            "number": None,
            "call_id": "1234567890",
            "headers": {"From": f"<sip:{NUMBER}@x>", "deep": [(NUMBER,), 1234567890, 1.5, True, None]},
            "error": ValueError(NUMBER),
        },
    )
    assert masked == {
        "event": "call of +**********890",
        "caller_number": "**611",
        "number": None,
        "call_id": "1234567890",
        "headers": {"From": "<sip:+**********890@x>", "deep": [["+**********890"], 1234567890, 1.5, True, None]},
        "error": "+**********890",
    }


@given(
    st.text(" :;<>@\"',=", max_size=5),
    st.from_regex(r"\A\+?[0-9]{7,15}\Z"),
    st.text(" :;<>@\"',=", min_size=1, max_size=5),
)
def test_no_number_gets_through(before: str, number: str, after: str) -> None:
    masked = mask_text(before + number + after)
    assert number not in masked
    assert sum(character.isdigit() for character in masked) == 3


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
@settings(max_examples=40)
def test_any_value_can_be_logged(value: object) -> None:
    json.dumps(mask_numbers(None, "info", {"event": "x", "value": value}))
