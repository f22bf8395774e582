# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Requests of the control node, and all errors that mean there is no answer."""

from __future__ import annotations

import concurrent.futures
import http.client
import io
import threading
import time
import typing as t
import urllib.error
import urllib.parse

from ansible.module_utils import urls

NO_ANSWER = (
    OSError,
    http.client.HTTPException,
    urls.ConnectionError,
    urls.MissingModuleError,
)


def is_url(text: str) -> bool:
    """Return whether a text is a URL that can be requested."""
    return urllib.parse.urlsplit(text).scheme in ("http", "https")


def reason(error: Exception) -> str:
    """Return why a request got no answer."""
    return str(getattr(error, "reason", None) or error)


def request(
    url: str,
    timeout: float,
    headers: t.Mapping[str, str] | None = None,
    data: str | None = None,
    most: int = 10_000_000,
) -> str:
    """Return the text of an answer, of C(most) bytes; with C(data) it is a POST. Raises NO_ANSWER.

    C(timeout) is of the whole answer. A socket's own is of each operation: one byte in time would start it again.
    """
    deadline = time.monotonic() + timeout
    outcome: concurrent.futures.Future[str] = concurrent.futures.Future()

    def ask() -> None:
        try:
            answer = urls.open_url(
                url,
                method="GET" if data is None else "POST",
                data=None if data is None else data.encode(),
                headers=dict(headers or {}),
                timeout=timeout,
                # a redirected POST would become a GET, whose answer says nothing of what was posted
                follow_redirects="urllib2" if data is None else "none",
                http_agent="udpgrm.fleet",
            )
            outcome.set_result(_read(answer, most, deadline).decode(errors="replace"))
        except urllib.error.HTTPError as error:
            outcome.set_exception(_complete(error, most, deadline))
        except Exception as error:
            outcome.set_exception(error)

    # Names and headers have no deadline: a thread that waits for them is abandoned, and ends with its worker.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return outcome.result(timeout)
    except (TimeoutError, concurrent.futures.TimeoutError):  # two classes before Python 3.11
        raise TimeoutError(f"it was not complete within {timeout:g} s") from None


def _read(answer: t.Any, most: int, deadline: float) -> bytes:
    """Return the first C(most) bytes of a body. Raises TimeoutError."""
    found = b""
    while len(found) < most and (part := answer.read1(min(65536, most - len(found)))):
        found += part
        if time.monotonic() >= deadline:
            raise TimeoutError
    return found


def _complete(error: urllib.error.HTTPError, most: int, deadline: float) -> Exception:
    """Return an error that has its body, or why that cannot be read."""
    try:
        body = io.BytesIO(_read(error.fp, most, deadline))
    except Exception as problem:
        return problem
    return urllib.error.HTTPError(error.url, error.code, error.reason, error.headers, body)
