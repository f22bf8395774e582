# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Values of a journal file, checked: each is of its type, or TypeError is raised. Pure."""

from __future__ import annotations

import math
from typing import Any, Optional

from udpgrm import abi


def text(value: object) -> str:
    """Return a string that can be written out again. Raises UnicodeEncodeError, too."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    value.encode("utf-8")
    return value


def optional_text(value: object) -> Optional[str]:
    """Return a string that can be written out again, or None."""
    return None if value is None else text(value)


def number(value: object) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} is not a number")
    return float(value)


def optional_number(value: object) -> Optional[float]:
    """Return a finite number, or None."""
    return None if value is None else number(value)


def generation(value: object) -> Optional[int]:
    """Return a generation, or None."""
    if value is None or (type(value) is int and 0 <= value < abi.GENERATION_NONE):
        return value
    raise TypeError(f"{value!r:.40} is not a generation")


def mapping(value: object) -> dict[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} is no object")
    return value
