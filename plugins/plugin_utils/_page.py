# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A rollout's page and the result beside it: their paths, and the coordinates of the page's pictures."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import tempfile
import typing as t

import jinja2
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _paths, _result
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._rollout import label

# Units of the drawing, left to right: names of hosts, then time.
LEFT = 130
WIDTH = 860
ROW = 22
GRAPH = 70
_TICKS = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_MOST_TICKS = 10
_SUMMED = ("flows_carried", "flows_lost", "moved", "dropped")
# Nothing was begun there, so there is nothing to sum up.
_NOT_BEGUN = ("unchanged", "planned", "untouched")


def result_path(path: str) -> pathlib.Path:
    """Return the path of the result: beside the page."""
    return pathlib.Path(path).resolve().with_suffix(".json")


def check(path: str) -> None:
    """Raise ValueError if page and result cannot be written."""
    if not path:
        return
    page, result = pathlib.Path(path).resolve(), result_path(path)
    if page == result:
        raise ValueError(f"udpgrm_report: {path} is where the result is written; end it with .html")
    for target in (page, result):
        try:
            if target.exists() and not target.is_file():
                raise OSError(0, "it is not a file")
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        except OSError as error:
            raise ValueError(
                f"udpgrm_report: {target} cannot be written: {error.strerror}; "
                "give another path, or false for none"
            ) from error


def write(
    settings: JsonObject,
    entries: t.Sequence[JsonObject],
    reason: str,
    notes: t.Sequence[str],
    ended: bool,
) -> str:
    """Write page and result; return why they could not be written, empty if they were. Each is replaced as a whole."""
    if not settings["report"]:
        return ""
    path = pathlib.Path(settings["report"]).resolve()
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(_paths.TEMPLATES)), autoescape=True
    )
    result = _result.document(settings, entries, reason, notes, ended)
    text = environment.get_template("udpgrm-report.html.j2").render(
        result=result,
        variables=settings["variables"],
        totals=totals(entries),
        page=layout(entries),
        as_of="" if ended else now,
    )
    document = f"{json.dumps(result, indent=1)}\n"
    problems = [_replace(path, text), _replace(result_path(settings["report"]), document)]
    return "; ".join(filter(None, problems))


def _replace(path: pathlib.Path, text: str) -> str:
    """Write a file; return why it could not be written."""
    draft = ""
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".udpgrm-report-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        pathlib.Path(draft).chmod(0o644)
        pathlib.Path(draft).replace(path)
    except OSError as error:
        if draft:
            pathlib.Path(draft).unlink(missing_ok=True)
        return f"{path} cannot be written: {error.strerror}"
    return ""


def totals(entries: t.Sequence[JsonObject]) -> dict[str, str]:
    """Return the last line of the table: entries by status, and the sums of figures, a minimum if some are unknown."""
    begun = [entry for entry in entries if entry["status"] not in _NOT_BEGUN]
    sums = {}
    for key in _SUMMED:
        known = [int(entry[key]) for entry in begun if entry[key] is not None]
        at_least = "\N{GREATER-THAN OR EQUAL TO} " if len(known) < len(begun) else ""
        sums[key] = f"{at_least}{sum(known)}" if known else "\N{EN DASH}"
    return {"counts": _result.counted(entries), **sums}


def _moments(entries: t.Iterable[JsonObject]) -> list[float]:
    found = []
    for entry in entries:
        found += [sample["at"] for sample in entry["samples"]]
        for step in entry["steps"]:
            found += [moment for moment in (step["started"], step["ended"]) if moment]
    return found


def layout(entries: t.Sequence[JsonObject]) -> dict[str, t.Any]:
    """Return the pictures' parts: C(ticks), and for each host C(bars), C(highest) and C(lines).

    Hosts without a moment in time have neither.
    """
    moments = _moments(entries)
    begin, end = (min(moments), max(moments)) if moments else (0.0, 1.0)
    span = max(end - begin, 0.1)

    def place(moment: float) -> float:
        return round(LEFT + (moment - begin) / span * WIDTH, 2)

    return {
        "left": LEFT,
        "right": LEFT + WIDTH,
        "row": ROW,
        "graph": GRAPH,
        "begin": datetime.datetime.fromtimestamp(begin, datetime.timezone.utc).strftime(
            "%Y-%m-%d %H:%M:%S UTC"
        )
        if moments
        else "",
        "span": span,
        "ticks": _ticks(span, place, begin),
        "hosts": [
            {
                **entry,
                "label": label(entry, entries),
                "bars": _bars(entry, place, end),
                "highest": _highest(entry),
                "lines": _lines(entry, place),
            }
            for entry in entries
        ],
    }


def _ticks(span: float, place: t.Callable[[float], float], begin: float) -> list[dict[str, t.Any]]:
    step = next((size for size in _TICKS if span / size <= _MOST_TICKS), _TICKS[-1])
    return [
        {"x": place(begin + number * step), "label": f"{number * step:g} s"}
        for number in range(int(span / step) + 1)
    ]


def _bars(
    entry: JsonObject, place: t.Callable[[float], float], end: float
) -> list[dict[str, t.Any]]:
    bars = []
    for step in entry["steps"]:
        ended = step["ended"] or max(end, step["started"])
        left = place(step["started"])
        bars.append(
            {
                "step": step["step"],
                "result": step["result"] or "continues",
                "seconds": ended - step["started"],
                "reason": step["reason"],
                "x": left,
                "width": max(1.0, round(place(ended) - left, 2)),
            }
        )
    return bars


def _highest(entry: JsonObject) -> int:
    return max((max(sample["flows"].values(), default=0) for sample in entry["samples"]), default=0)


def _lines(entry: JsonObject, place: t.Callable[[float], float]) -> list[dict[str, t.Any]]:
    """Return a line for each generation; a generation that a sample lacks has no flows then."""
    numbers = sorted({number for s in entry["samples"] for number in s["flows"]}, key=int)
    highest = max(1, _highest(entry))
    lines = []
    for number in numbers:
        points = [
            (place(sample["at"]), round(GRAPH * (1 - sample["flows"].get(number, 0) / highest), 2))
            for sample in entry["samples"]
        ]
        lines.append(
            {
                "generation": int(number),
                "new": int(number) == entry["to_generation"],
                "points": " ".join(f"{x},{y}" for x, y in points),
                "last": points[-1],
                "flows": entry["samples"][-1]["flows"].get(number, 0),
            }
        )
    return lines
