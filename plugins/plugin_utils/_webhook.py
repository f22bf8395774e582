# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Notices of a rollout: a POST with a JSON body for each event. One that fails is a warning, and never stops a run."""

from __future__ import annotations

import json
import pathlib
import time
import typing as t
import urllib.parse

import jinja2
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _http, _paths, _rollout
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject

_TIMEOUT_S = 5
#: Templates of the collection, by the word that chooses them.
_NAMED = ("grafana", "slack")
_TEXTS = {
    "begin": "begins with {batch}",
    "batch": "continues with {batch}",
    "wait": "waits before {batch}: {why}",
    "stop": "stops before {batch}: {why}",
    "end": "has ended: {why}",
}


def parse_url(value: t.Any) -> str:
    """Return the URL; empty: no notices. Raises ValueError."""
    url = str(value or "")
    if url and not _http.is_url(url):
        raise ValueError("it is an http or https URL")
    return url


def parse_headers(value: t.Any) -> dict[str, str]:
    """Return the headers. Raises ValueError."""
    if not isinstance(value or {}, dict):
        raise ValueError("it is a mapping of headers")
    return {str(name): str(text) for name, text in (value or {}).items()}


def parse_template(value: t.Any) -> str:
    """Return the path of the template; empty: the body is the event itself. Raises ValueError."""
    word = str(value or "")
    if word in _NAMED:
        return str(_paths.TEMPLATES / f"webhook-{word}.json.j2")
    path = _paths.given(word)
    if word and not path.is_file():
        raise ValueError(f"it is {' or '.join(_NAMED)} or a file; there is no file {path}")
    return str(path) if word else ""


def event(name: str, batch: t.Sequence[str], why: str, result: JsonObject) -> dict[str, t.Any]:
    """Return an event: what has happened, in one sentence, and the result so far."""
    services = ", ".join(result["services"])
    what = services if services == _rollout.REBOOT else f"restart of {services}"
    text = _TEXTS[name].format(batch=", ".join(batch), why=why)
    return {
        "event": name,
        "text": f"Rolling {what} by {result['by']} {text}",
        "at": time.time(),
        "batch": list(batch),
        "result": result,
    }


def body(template: str, given: JsonObject) -> str:
    """Return the body of a notice. Raises ValueError if a template's text is no JSON."""
    if not template:
        return json.dumps(given)
    try:
        text = jinja2.Template(pathlib.Path(template).read_text(encoding="utf-8")).render(**given)
        return json.dumps(json.loads(text))
    except (jinja2.TemplateError, OSError, ValueError) as error:
        raise ValueError(f"{template}: {error}") from error


def send(settings: JsonObject, given: JsonObject) -> str:
    """Send a notice, if there is a webhook; return why it could not be sent, without its URL: that may be a secret."""
    if not settings["webhook"]:
        return ""
    try:
        text = body(settings["webhook_template"], given)
        headers = {"Content-Type": "application/json", **settings["webhook_headers"]}
        _http.request(settings["webhook"], _TIMEOUT_S, headers, text)
    except (ValueError, *_http.NO_ANSWER) as error:
        host = urllib.parse.urlsplit(settings["webhook"]).hostname
        return f"the webhook at {host} got no notice of {given['event']}: {_http.reason(error)}"
    return ""
