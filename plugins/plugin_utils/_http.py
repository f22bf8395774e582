# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Requests of the control node, and all errors that mean there is no answer."""

from __future__ import annotations

import http.client
import typing as t
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
    timeout: int,
    headers: t.Mapping[str, str] | None = None,
    data: str | None = None,
    most: int = 10_000_000,
) -> str:
    """Return the text of an answer, of C(most) bytes; with C(data) it is a POST. Raises NO_ANSWER."""
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
    return str(answer.read(most).decode(errors="replace"))
