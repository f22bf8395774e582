# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The short form of fuzzing: kept inputs, and inputs made of them, through every parser."""

from __future__ import annotations

import pytest

from tests.fuzz import mutations, targets

INPUTS = 500
SEED = 18


@pytest.mark.parametrize("name", targets.TARGETS)
def test_parsers_end_as_they_say(name: str) -> None:
    kept = list(targets.corpus(name))
    for data in [b"", *kept, *mutations.mutated(kept, INPUTS, SEED)]:
        try:
            targets.TARGETS[name](data)
        except BaseException as error:
            pytest.fail(f"{name} of {data!r}: {error!r}")


def test_every_corpus_has_a_target() -> None:
    assert {path.name for path in targets.CORPUS.iterdir()} == {*targets.TARGETS, "packets"}


def test_mutations_are_the_same_with_the_same_seed() -> None:
    first = list(mutations.mutated([b"abc", b"defg"], 50, 1))
    assert first == list(mutations.mutated([b"abc", b"defg"], 50, 1))
    assert first != list(mutations.mutated([b"abc", b"defg"], 50, 2))
    assert len(set(first)) > 25
