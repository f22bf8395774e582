# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""What the kernel saw of a probe, against what it should have seen."""

from __future__ import annotations

from typing import Any

import pytest

from udpgrm.restart.evidence import evaluate
from udpgrm.restart.steps import StepFailed

GOOD: dict[str, Any] = {
    "probe": "echo",
    "address": "127.0.0.1:4433",
    "source": "127.0.0.1:40000",
    "passed": True,
    "reason": "the nonce came back",
    "sent": "ab",
    "received": "ab",
    "received_generation": 5,
    "path": "steered",
    "replied_generation": 5,
}


def test_good() -> None:
    evaluate(GOOD, 5, "steered")
    # answered by a socket that is in no generation
    evaluate({**GOOD, "replied_generation": None}, 5, "steered")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"passed": False, "reason": "no reply within 1 s", "received": None},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; failed: no reply within 1 s; "
            "sent ab; received nothing; generation 5 got it as steered; generation 5 answered",
        ),
        (
            {"received_generation": 4},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; passed; sent ab; received ab; "
            "generation 4 got it as steered; generation 5 answered; "
            "wanted generation 5 to get it as steered",
        ),
        (
            {"received_generation": None, "path": None, "replied_generation": None},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; passed; sent ab; received ab; "
            "no generation got it; wanted generation 5 to get it as steered",
        ),
        (
            {"path": "new"},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; passed; sent ab; received ab; "
            "generation 5 got it as new; generation 5 answered; "
            "wanted generation 5 to get it as steered",
        ),
        (
            {"replied_generation": 4},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; passed; sent ab; received ab; "
            "generation 5 got it as steered; generation 4 answered; "
            "generation 5 should have answered",
        ),
    ],
)
def test_bad(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(StepFailed) as caught:
        evaluate({**GOOD, **changes}, 5, "steered")
    assert str(caught.value) == words
