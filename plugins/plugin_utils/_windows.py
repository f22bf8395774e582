# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Maintenance windows: times of the week in which a batch may begin."""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t
import zoneinfo

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW = re.compile(
    r"(?:(?P<first>[A-Z][a-z]{2})(?:-(?P<last>[A-Z][a-z]{2}))? )?"
    r"(?P<begin>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2})(?: (?P<zone>\S+))?"
)
_FORM = "it is a list of windows such as Mon-Fri 22:00-04:00 Europe/Berlin"
_DAY = 24 * 60


@dataclasses.dataclass(frozen=True)
class Window:
    """Minutes of a day, on the days of the week on which the window opens. C(zone) None: the control node's."""

    text: str
    days: frozenset[int]
    begin: int
    end: int
    zone: zoneinfo.ZoneInfo | None

    def has(self, moment: datetime.datetime) -> bool:
        """Return whether a moment is within the window. It may have opened on the day before."""
        there = moment.astimezone(self.zone)
        minute = there.hour * 60 + there.minute
        return any(
            (there.weekday() - before) % 7 in self.days
            and self.begin <= minute + before * _DAY < self.begin + self._length
            for before in (0, 1)
        )

    @property
    def _length(self) -> int:
        return (self.end - self.begin - 1) % _DAY + 1


def parse(value: t.Any) -> list[Window]:
    """Return windows as they are given; a string is one. Raises ValueError."""
    given = [value] if isinstance(value, str) and value else value or []
    if not isinstance(given, list):
        raise ValueError(_FORM)
    return [_window(str(text)) for text in given]


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f"{_FORM}, not {text!r}")
    first, last = found["first"], found["last"] or found["first"]
    if first is None:
        days = frozenset(range(7))
    else:
        if first not in _DAYS or last not in _DAYS:
            raise ValueError(f"days are {', '.join(_DAYS)}, not {text!r}")
        span = (_DAYS.index(last) - _DAYS.index(first)) % 7
        days = frozenset((_DAYS.index(first) + day) % 7 for day in range(span + 1))
    try:
        zone = zoneinfo.ZoneInfo(found["zone"]) if found["zone"] else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {found['zone']!r}") from error
    return Window(text, days, _minute(found["begin"]), _minute(found["end"]), zone)


def _minute(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _DAY:
        raise ValueError(f"{text} is no time of a day")
    return hours * 60 + minutes


def closed(windows: t.Sequence[Window], moment: datetime.datetime) -> str:
    """Return why nothing may begin at a moment; empty if there is no window, or one is open."""
    if not windows or any(window.has(moment) for window in windows):
        return ""
    return f"outside of udpgrm_windows ({', '.join(window.text for window in windows)})"
