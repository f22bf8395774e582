# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import json
from typing import Any

import pytest

from testing import contract
from udpgrm.cli import common, options
from udpgrm.cli.options import Arguments


@pytest.fixture(autouse=True)
def answers_are_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check every answer in JSON against its schema."""
    really_parse, really_print = options.parse, common.print_json
    asked: list[Arguments] = []

    def parse(argv: list[str]) -> Arguments:
        asked.append(really_parse(argv))
        return asked[-1]

    def print_json(content: dict[str, Any]) -> None:
        document = json.loads(json.dumps({"schema": common.SCHEMA, **content}))
        assert contract.misfits(contract.answer_of(asked[-1]), document) == []
        really_print(content)

    monkeypatch.setattr(options, "parse", parse)
    monkeypatch.setattr(common, "print_json", print_json)
