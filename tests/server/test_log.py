from __future__ import annotations

import io
import json
import logging
import warnings

import pytest
import structlog

from vedette_server.log import configure
from vedette_server.settings import LogSettings


@pytest.fixture(autouse=True)
def logging_as_before():
    root = logging.getLogger()
    names = ("vedette_server", "vedette_engines")
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in names}
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], level, levels = before
    root.setLevel(level)
    for name, its_level in levels.items():
        logging.getLogger(name).setLevel(its_level)
    structlog.reset_defaults()


def lines_of(log_format: str, level: str = "info"):
    stream = io.StringIO()
    configure(LogSettings(level, log_format), stream)
    return lambda: stream.getvalue().splitlines()


def test_a_json_event_is_its_phrase_and_its_fields():
    lines = lines_of("json")
    structlog.get_logger().info("channel connected", channel="gate", epoch=2)
    event = json.loads(lines()[0])
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "channel connected", "channel": "gate", "epoch": 2, "level": "info"}


def test_a_text_event_off_a_terminal_is_one_line_without_colours():
    lines = lines_of("text")
    structlog.get_logger("vedette_server.app").warning("drain began", grace_s=10)
    [line] = lines()
    assert "drain began" in line
    assert "grace_s=10" in line
    assert "\x1b" not in line


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_holds_for_our_own_events_however_they_are_logged(level, expected):
    ours, plain = lines_of("json", level), logging.getLogger("vedette_server.batch")
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)("something happened")
        getattr(plain, name)("something happened")
    assert len(ours()) == 2 * expected


def test_libraries_are_heard_from_warning_up():
    lines = lines_of("json", "debug")
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").warning("slow callback %d", 5)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    events = [json.loads(line) for line in lines()]
    assert events[0]["event"] == "slow callback 5"
    assert events[0]["logger"] == "asyncio"
    assert "old thing" in events[1]["event"]
    assert len(events) == 2


def test_an_exception_stands_in_one_json_line_with_its_traceback():
    lines = lines_of("json")
    try:
        int("boom")
    except ValueError:
        logging.getLogger("vedette_server.rpc").exception("call failed", extra={"channel": "gate"})
    [line] = lines()
    event = json.loads(line)
    assert event["channel"] == "gate"
    assert "ValueError: invalid literal" in event["exception"]


def test_the_last_configuration_holds():
    first, second = lines_of("json"), lines_of("json")
    structlog.get_logger().info("once")
    assert (len(first()), len(second())) == (0, 1)
