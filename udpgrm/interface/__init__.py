# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The host's contract: the JSON Schema of each answer, NAME.schema.json.

Nothing validates on hosts. Tests and docs/host-interface.md are made of these files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent
#: Definitions that the answers share.
COMMON = "common"
_SUFFIX = ".schema.json"

Schema = dict[str, Any]


def names() -> list[str]:
    """Return the names of all answers."""
    found = (path.name[: -len(_SUFFIX)] for path in DIRECTORY.glob(f"*{_SUFFIX}"))
    return sorted(name for name in found if name != COMMON)


def load(name: str) -> Schema:
    """Return the schema of an answer, or of the definitions that the answers share."""
    schema: Schema = json.loads((DIRECTORY / f"{name}{_SUFFIX}").read_text(encoding="utf-8"))
    return schema
