# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The short form of fuzzing the dissectors' C, with sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import mutations, packets, targets
from tests.unit.bpf.support import compile_c

PACKETS = 20_000
SEED = 18


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packets.build(tmp_path_factory.mktemp("packets"))


def test_kept_packets_reach_every_dissector(program: Path) -> None:
    found = packets.dissect(program, targets.corpus("packets"))
    assert len(found) == 7
    assert all(found.values()), found


def test_nothing_is_read_beyond_a_packet(program: Path) -> None:
    kept = list(targets.corpus("packets"))
    packets.dissect(program, [b"", *mutations.mutated(kept, PACKETS, SEED)])


def test_the_sanitizers_see_what_is_read_beyond(tmp_path: Path) -> None:
    source = Path(packets.__file__).with_name("packets.c").read_text()
    wrong = source.replace("md.data_end = part + linear", "md.data_end = part + linear + 4")
    assert wrong != source
    path = tmp_path / "wrong.c"
    path.write_text(wrong)
    program = compile_c(path, tmp_path / "wrong", *packets.OPTIONS)
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        packets.dissect(program, targets.corpus("packets"))
