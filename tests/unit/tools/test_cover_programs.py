# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Each line of a program's one text comes from where it says."""

from __future__ import annotations

import pytest

from tools.cover_programs import expanded
from udpgrm.build import sources
from udpgrm.build.sources import Program
from udpgrm.files import BPF_DIR

PROGRAMS = [*sources.all_programs(), *sources.shipped_named()]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_lines(program: Program) -> None:
    text = sources.render(program)
    lines = list(expanded(program.source, text, set()))
    places = [place for place, _ in lines]
    assert len(places) == len(set(places)), "a header is there twice"
    files = {name: (BPF_DIR / name).read_text() for name in {name for name, _ in places}}
    files[program.source] = text
    for (name, number), line in lines:
        assert line == files[name].split("\n")[number - 1]
    assert not [line for _, line in lines if line.startswith('#include "')]
    assert "abi.h" in files
