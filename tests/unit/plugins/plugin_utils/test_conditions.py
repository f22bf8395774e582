# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Test the conditions of the next batch: brake, windows, approval; and domains that bound it."""

from __future__ import annotations

import datetime
import http.server
import pathlib
import threading
import typing as t
import urllib.parse
import zoneinfo

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _approval,
    _brake,
    _conditions,
    _decision,
    _domains,
    _windows,
)
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._conditions import GO, Answer

from .test_gates import Clock

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def await_all(*answers: t.Iterator[Answer]) -> tuple[_conditions.Outcome, list[str], float]:
    clock, displayed = Clock(), list[str]()
    conditions = [lambda given=given: next(given, GO) for given in answers]
    told: list[str] = []
    outcome = _conditions.await_all(conditions, displayed.append, told.append, clock, clock.sleep)
    assert told == list(dict.fromkeys(line.removeprefix("waits: ") for line in displayed))
    return outcome, displayed, clock.now


def test_conditions_hold_at_the_same_time() -> None:
    brake = iter([Answer(wait="paused")] * 3 + [GO, Answer(wait="paused")])
    gate = iter([Answer(wait="shut"), GO])
    outcome, displayed, seconds = await_all(brake, gate)
    assert outcome == _conditions.Outcome("", ["waited 8 s: paused", "waited 2 s: shut"])
    assert displayed == ["waits: paused", "waits: shut", "waits: paused"]
    assert seconds == 10


def test_a_condition_stops() -> None:
    outcome, _displayed, seconds = await_all(
        iter([GO, Answer(stop="enough")]), iter([Answer(wait="w")])
    )
    assert (outcome.stop, seconds) == ("enough", 2)


def test_a_long_wait_is_displayed_each_minute() -> None:
    _outcome, displayed, _seconds = await_all(iter([Answer(wait="paused")] * 100))
    assert len(displayed) == 4


@pytest.mark.parametrize(
    "text, answer",
    [
        (None, GO),
        ("stop\n", Answer(stop="{} says stop")),
        ("", Answer(wait="{} says pause; delete it to continue")),
        ("pause", Answer(wait="{} says pause; delete it to continue")),
        ("st", Answer(wait="{} says neither pause nor stop; delete it to continue")),
    ],
)
def test_brake(tmp_path: pathlib.Path, text: str | None, answer: Answer) -> None:
    path = tmp_path / "brake"
    if text is not None:
        path.write_text(text)
    expected = Answer(answer.wait.format(path), answer.stop.format(path))
    assert _brake.read(str(path)) == expected


def test_a_brake_that_cannot_be_read_pauses(tmp_path: pathlib.Path) -> None:
    assert "cannot be read: Is a directory" in _brake.read(str(tmp_path)).wait


@pytest.mark.parametrize(
    "window, moment, is_open",
    [
        ("02:00-05:00", "2026-03-02 02:00", True),
        ("02:00-05:00", "2026-03-02 05:00", False),
        ("02:00-05:00", "2026-03-02 01:59", False),
        # over midnight: on the day after it opened
        ("Fri 22:00-04:00", "2026-03-06 23:00", True),
        ("Fri 22:00-04:00", "2026-03-07 03:59", True),
        ("Fri 22:00-04:00", "2026-03-06 03:00", False),
        ("Fri 22:00-04:00", "2026-03-07 22:00", False),
        ("Sat-Mon 00:00-24:00", "2026-03-08 12:00", True),
        ("Sat-Mon 00:00-24:00", "2026-03-10 12:00", False),
        # a day long
        ("Mon 06:00-06:00", "2026-03-03 05:00", True),
    ],
)
def test_windows(window: str, moment: str, is_open: bool) -> None:
    windows = _windows.parse(f"{window} Europe/Berlin")
    then = datetime.datetime.fromisoformat(moment).replace(tzinfo=BERLIN)
    assert (_windows.closed(windows, then.astimezone(datetime.timezone.utc)) == "") == is_open


def test_windows_together() -> None:
    windows = _windows.parse(["Mon 02:00-03:00 UTC", "Tue 02:00-03:00 UTC"])
    tuesday = datetime.datetime(2026, 3, 3, 2, 30, tzinfo=datetime.timezone.utc)
    assert _windows.closed(windows, tuesday) == ""
    why = _windows.closed(windows, tuesday + datetime.timedelta(hours=1))
    assert why == "outside of udpgrm_windows (Mon 02:00-03:00 UTC, Tue 02:00-03:00 UTC)"
    assert _windows.closed(_windows.parse([]), tuesday) == ""


@pytest.mark.parametrize(
    "given, wrong",
    [
        ("at night", "not 'at night'"),
        ("Mo 02:00-03:00", "it is a list of windows"),
        ("Xyz 02:00-03:00", "days are Mon, Tue"),
        ("25:00-26:00", "25:00 is no time of a day"),
        ("02:00-03:00 Europe/Nowhere", "there is no time zone 'Europe/Nowhere'"),
        ({"a": 1}, "it is a list of windows"),
    ],
)
def test_wrong_windows(given: t.Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        _windows.parse(given)


def approval(how: str, clock: Clock, *typed: str) -> _approval.Approval:
    lines = iter(typed)

    def prompt(_question: str, seconds: int) -> str:
        word = next(lines, None)
        if word is None:
            clock.now += seconds
        return word or ""

    return _approval.Approval(how, "Batch 2?", "fl2", 60, prompt, clock)


def test_approval_in_a_file(tmp_path: pathlib.Path) -> None:
    path, clock = tmp_path / "answer", Clock()
    # an answer to an earlier question
    path.write_text("yes")
    asked = approval(str(path), clock)
    assert asked.ask() == Answer(wait=f"Batch 2? Write yes, all or no to {path}")
    path.write_text("ye")
    assert asked.ask().wait
    path.write_text("All\n")
    assert (asked.ask(), asked.word, path.exists()) == (GO, "all", False)
    # it was answered once
    clock.now = 100
    assert asked.ask() == GO


def test_approval_that_is_refused_or_does_not_come(tmp_path: pathlib.Path) -> None:
    path, clock = tmp_path / "answer", Clock()
    asked = approval(str(path), clock)
    asked.ask()
    path.write_text("no")
    assert asked.ask() == Answer(stop="not approved")
    late = approval(str(path), clock)
    late.ask()
    clock.now = 60
    assert late.ask() == Answer(stop="no approval within 60 s")


def test_approval_at_the_terminal() -> None:
    clock = Clock()
    asked = approval("terminal", clock, "what", "y")
    assert asked.ask().wait == "Batch 2? "
    assert (asked.ask(), asked.word) == (GO, "yes")
    silent = approval("terminal", clock)
    silent.ask()
    assert silent.ask() == Answer(stop="no approval within 60 s")


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with a word, and keeps what was asked."""

    word = b""
    asked: t.ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200 if self.word else 503)
        self.end_headers()
        self.wfile.write(self.word)

    def log_message(self, *_arguments: t.Any) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> t.Iterator[str]:
    Answers.word = b""
    Answers.asked.clear()
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/approve?of=echo"
    found.shutdown()
    found.server_close()


def test_approval_by_a_url(server: str) -> None:
    asked = approval(server, Clock())
    waits = Answer(wait="Batch 2? 127.0.0.1 answers yes, all or no")
    # an error, then a page of something else
    assert asked.ask() == waits
    Answers.word = b"<html>"
    assert asked.ask() == waits
    Answers.word = b"yes\n"
    assert (asked.ask(), asked.word) == (GO, "yes")
    queries = {urllib.parse.urlsplit(path).query for path in Answers.asked}
    assert queries == {"of=echo&batch=fl2"}
    Answers.word = b"no"
    assert approval(server, Clock()).ask() == Answer(stop="not approved")


NIGHT = "Mon 22:00-23:00 UTC"


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[datetime.datetime]:
    """Return the moments at which a window is asked for, in their order; no wait takes time."""
    given: list[datetime.datetime] = []
    closed = _windows.closed
    monkeypatch.setattr(_windows, "closed", lambda windows, _now: closed(windows, given.pop(0)))
    monkeypatch.setattr(_conditions, "POLL_S", 0.0)
    return given


def monday(hour: int) -> datetime.datetime:
    return datetime.datetime(2026, 3, 2, hour, 59, tzinfo=datetime.timezone.utc)


def decide(outside: str, told: list[str]) -> dict[str, t.Any]:
    settings = {
        **dict.fromkeys(("brake", "gates", "expedite", "approval")),
        "windows": _windows.parse([NIGHT]),
        "outside_windows": outside,
    }
    return _decision.decide(settings, ["fl2"], False, [], told.append)


def test_a_window_that_closes_stops_before_the_next_batch(
    moments: list[datetime.datetime],
) -> None:
    moments += [monday(22), monday(23)]
    told: list[str] = []
    assert decide("stop", told)["stop"] == ""
    assert decide("stop", told)["stop"] == f"outside of udpgrm_windows ({NIGHT})"
    assert told == []


def test_a_window_may_be_waited_for(moments: list[datetime.datetime]) -> None:
    moments += [monday(20), monday(21), monday(22)]
    told: list[str] = []
    outcome = decide("wait", told)
    assert (outcome["stop"], told) == ("", [f"outside of udpgrm_windows ({NIGHT})"])
    assert outcome["notes"] == [f"waited 0 s: outside of udpgrm_windows ({NIGHT})"]


DOMAINS = {"a1": "a", "b1": "b", "a2": "a", "b2": "b", "b3": "b"}


@pytest.mark.parametrize(
    "canaries, hosts, sizes",
    [
        (0, ["a1", "a2", "b1", "b2", "b3"], [1, 1, 3]),
        # two canaries of two domains
        (2, ["a1", "b1", "a2", "b2", "b3"], [1, 1, 1, 2]),
        (1, ["a1", "b1", "b2", "b3", "a2"], [1, 3, 1]),
    ],
)
def test_batches_have_one_domain(canaries: int, hosts: list[str], sizes: list[int]) -> None:
    assert _domains.batches([1, "100%"], canaries, DOMAINS, 1) == (hosts, sizes)


def test_batches_of_two_domains() -> None:
    domains = {"a1": "a", "b1": "b", "c1": "c", "c2": "c"}
    hosts, sizes = _domains.batches(["100%"], 0, domains, 2)
    assert (hosts, sizes) == (["a1", "b1", "c1", "c2"], [2, 2])
