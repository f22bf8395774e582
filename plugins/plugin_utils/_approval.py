# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Approval of the next batch: by an answer at the terminal, in a file of the control node, or from a URL."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import time
import typing as t
import urllib.parse

from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _http, _paths
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._conditions import GO, Answer

TERMINAL = "terminal"
_TIMEOUT_S = 10
_WORDS = {"y": "yes", "yes": "yes", "all": "all", "n": "no", "no": "no"}

# Asks at the terminal for at most some seconds; returns the line. Raises EOFError without an answer:
# there is no terminal, or the operator has interrupted the prompt.
Prompt = t.Callable[[str, int], str]


def parse(value: t.Any) -> str:
    """Return how a batch is approved: terminal, a URL, or the path of a file; empty: it needs no approval."""
    if isinstance(value, str) and (value == TERMINAL or _http.is_url(value)):
        return value
    path = _paths.optional(value)
    if path and not pathlib.Path(path).parent.is_dir():
        raise ValueError(
            f"it is terminal, a URL, or a file; there is no directory {pathlib.Path(path).parent}"
        )
    return path


def check(how: str) -> None:
    """Raise ValueError if the approval needs a terminal, and there is none."""
    if how == TERMINAL and not sys.stdin.isatty():
        raise ValueError("udpgrm_approval: there is no terminal; use a file or a URL")


class Approval:
    """The approval of one batch. C(question): words for people; C(batch): the name of its first host, for a URL."""

    def __init__(
        self,
        how: str,
        question: str,
        batch: str,
        timeout: int,
        prompt: Prompt,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._how = how
        self._question = question
        self._batch = batch
        self._timeout = timeout
        self._prompt = prompt
        self._clock = clock
        self._asked_at: float | None = None
        self.word = ""

    def ask(self) -> Answer:
        """Return the answer so far. One that was given before the question is none."""
        if self.word in ("yes", "all"):
            return GO
        if self._asked_at is None:
            self._asked_at = self._clock()
            if not (self._how == TERMINAL or _http.is_url(self._how)):
                pathlib.Path(self._how).unlink(missing_ok=True)
        remaining = self._timeout - (self._clock() - self._asked_at)
        if remaining <= 0:
            return Answer(stop=f"no approval within {self._timeout} s")
        try:
            self.word = _WORDS.get(self._read(int(remaining) + 1).strip().lower(), "")
        except EOFError:
            return Answer(stop="no approval: no answer from the terminal")
        if self.word == "no":
            return Answer(stop="not approved")
        return GO if self.word else Answer(wait=f"{self._question} {self._where()}")

    def _read(self, seconds: int) -> str:
        if self._how == TERMINAL:
            return self._prompt(f"{self._question} [yes/all/no]", seconds)
        if _http.is_url(self._how):
            joint = "&" if "?" in self._how else "?"
            url = f"{self._how}{joint}{urllib.parse.urlencode({'batch': self._batch})}"
            with contextlib.suppress(ValueError, *_http.NO_ANSWER):  # no answer yet
                return _http.request(url, _TIMEOUT_S, most=100)
            return ""
        path = pathlib.Path(self._how)
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        if text.strip().lower() in _WORDS:
            path.unlink(missing_ok=True)
        return text

    def _where(self) -> str:
        if self._how == TERMINAL:
            return ""
        if _http.is_url(self._how):
            return f"{urllib.parse.urlsplit(self._how).hostname} answers yes, all or no"
        return f"Write yes, all or no to {self._how}"
