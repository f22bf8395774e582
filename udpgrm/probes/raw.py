# SPDX-License-Identifier: Apache-2.0
"""The raw probe: bytes of the operator's choice."""

from __future__ import annotations

import re
from typing import Optional

from udpgrm.probes.exchange import Verdict, passed, unrelated
from udpgrm.probes.specs import RawProbe


class Raw:
    """An exchange of the payload and a reply that matches the pattern."""

    def __init__(self, spec: RawProbe) -> None:
        self.request = bytes.fromhex(spec.payload)
        self._expect = spec.expect
        self._pattern = _pattern(spec.expect)

    def evaluate(self, reply: bytes) -> Verdict:
        """Compare a reply with the pattern; a later one may still be right."""
        if self._pattern is None:
            return passed("a reply came")
        if self._pattern.fullmatch(reply.hex()):
            return passed(f"the reply fits {self._expect}")
        return unrelated(f"the reply does not fit {self._expect}")


def _pattern(expect: Optional[str]) -> Optional[re.Pattern[str]]:
    """Return the pattern of a reply: `?` is any digit, a last `*` any further bytes."""
    if expect is None:
        return None
    return re.compile(expect.lower().replace("?", ".").replace("*", ".*"))
