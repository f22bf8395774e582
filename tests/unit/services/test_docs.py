# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The definitions that the documentation shows are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from udpgrm.services import loader

DOCS = Path(__file__).resolve().parents[3] / "docs"
EXAMPLES = [
    (name, example)
    for name in ("services.md", "probes.md")
    for example in re.findall(r"```yaml\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
]


def test_there_are_examples() -> None:
    assert [name for name, _ in EXAMPLES] == [*["services.md"] * 4, "probes.md"]


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_examples(name: str, example: str) -> None:
    service, problems = loader.parse("edge", example.encode())
    assert problems == [], name
    assert service is not None
