# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Renewal of templates that do not load, as of a full disk: they are compiled once more."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Callable, TypeVar

from udpgrm import log
from udpgrm.build import cache
from udpgrm.build.sources import Program
from udpgrm.kernel import libbpf
from udpgrm.loader import failures

#: Errors of a template that was truncated or changed.
BROKEN = (libbpf.VerifierError, KeyError, struct.error)
_Result = TypeVar("_Result")


def load(programs: Sequence[Program], action: Callable[[], _Result]) -> _Result:
    """Call what loads these programs; if they do not load, once more with new templates."""
    try:
        return action()
    except BROKEN as error:
        if failures.is_machines(error) or not cache.discard(programs):
            raise
        log.problem(f"a template does not load and is compiled once more: {error}")
    cache.compile_missing(programs)
    return action()
