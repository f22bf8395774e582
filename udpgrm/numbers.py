# SPDX-License-Identifier: Apache-2.0
"""The parser of whole numbers."""

from __future__ import annotations

from typing import Optional

_DIGITS = 20  # as 2**64 - 1 has; int() refuses some thousands with an error of its own


def whole_number(text: str, low: int, high: int) -> Optional[int]:
    """Return a decimal number within bounds, or None."""
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        return None
    return int(text) if low <= int(text) <= high else None


def number_of(name: str, text: str, low: int, high: int) -> int:
    """Return the decimal number that an option or a key has. Raises ValueError."""
    number = whole_number(text, low, high)
    if number is None:
        raise ValueError(f"{name}: {text!r} is not a number of {low}..{high}")
    return number
