# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Values of a journal, of which a disk may hold anything: of their type, or TypeError. Pure."""

from __future__ import annotations

import math
from typing import Any, Optional

from udpgrm import abi


def text(value: object) -> str:
    """A string that can be written out again. Raises UnicodeEncodeError, too."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    value.encode("utf-8")
    return value


def number(value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} is not a number")
    return float(value)


def optional_number(value: object) -> Optional[float]:
    """A finite number, or None."""
    return None if value is None else number(value)


def generation(value: object) -> Optional[int]:
    """A generation, or None."""
    if value is None or (type(value) is int and 0 <= value < abi.GENERATION_NONE):
        return value
    raise TypeError(f"{value!r:.40} is not a generation")


def mapping(value: object) -> dict[str, Any]:
    """An object of JSON."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} is no object")
    return value
