# SPDX-License-Identifier: Apache-2.0
"""The SIP probe: OPTIONS (RFC 3261, section 11); any final response is a reply."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Optional

from udpgrm.probes.exchange import Endpoints, Verdict, passed, unrelated
from udpgrm.probes.specs import SipProbe
from udpgrm.state import address

_STATUS = re.compile(r"SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?", re.IGNORECASE)
_BRANCH = re.compile(r";\s*branch\s*=\s*([^\s;,]+)", re.IGNORECASE)
_COMPACT = {"v": "via", "i": "call-id"}
_MAGIC_COOKIE = "z9hG4bK"


class Sip:
    """An exchange of OPTIONS and a final response of the same call and branch."""

    def __init__(
        self,
        spec: SipProbe,
        between: Endpoints,
        branch: Optional[str] = None,
        call_id: Optional[str] = None,
    ) -> None:
        here, there = address.form(*between.source), address.form(*between.target)
        uri = spec.uri or f"sip:{there}"
        self._branch = branch or _MAGIC_COOKIE + os.urandom(8).hex()
        self._call_id = call_id or f"{os.urandom(8).hex()}@udpgrm"
        lines = (
            f"OPTIONS {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch={self._branch};rport",
            "Max-Forwards: 70",
            f"To: <{uri}>",
            f"From: <sip:udpgrm@{here}>;tag={os.urandom(4).hex()}",
            f"Call-ID: {self._call_id}",
            "CSeq: 1 OPTIONS",
            f"Contact: <sip:udpgrm@{here}>",
            "Accept: application/sdp",
            "Content-Length: 0",
        )
        self.request = "\r\n".join((*lines, "", "")).encode("ascii")

    def evaluate(self, reply: bytes) -> Verdict:
        """Accept a final response; a provisional one is none yet."""
        head = reply.decode("utf-8", "replace").partition("\r\n\r\n")[0]
        status = _STATUS.fullmatch(head.partition("\r\n")[0])
        if status is None:
            return unrelated("not a SIP response")
        headers: dict[str, str] = {}
        for name, value in _headers(head):
            headers.setdefault(name, value)  # the topmost Via is ours
        branch = _BRANCH.search(headers.get("via", "").partition(",")[0])
        if headers.get("call-id") != self._call_id or not branch or branch[1] != self._branch:
            return unrelated("a SIP response of another call or branch")
        text = f"SIP {status[1]} {status[2] or ''}".strip()
        if status[1].startswith("1"):
            return unrelated(f"{text} is not final")
        return passed(text)


def _headers(head: str) -> Iterator[tuple[str, str]]:
    """Yield (full name in lower case, value); folded lines are joined (section 7.3.1)."""
    unfolded = re.sub(r"\r\n[ \t]+", " ", head)
    for line in unfolded.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        yield _COMPACT.get(name, name), value.strip()
