# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The claim of a rollout on a host's service."""

from __future__ import annotations

import pathlib
import threading

import pytest
from ansible_collections.udpgrm.fleet.plugins.module_utils import _claim
from ansible_collections.udpgrm.fleet.plugins.module_utils._claim import Rollout
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import JsonObject


@pytest.fixture(autouse=True)
def state(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Return the directory of a host's journals."""
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))
    return tmp_path


def test_one_that_ends_while_another_replaces_it() -> None:
    """Keep the claim of the rollout that continues."""
    _claim.take("dns", Rollout("old", "root@one"))
    seen = threading.Event()
    current = _claim.current

    def look(service: str) -> JsonObject | None:
        found = current(service)
        seen.set()
        return found

    ending = threading.Thread(target=_claim.drop, args=("dns", "old"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_claim, "current", look)
        with _claim._locked("dns"):
            ending.start()
            assert seen.wait(60)
            _claim._write("dns", Rollout("new", "root@two", replaces="old"))
        ending.join()
    claim = _claim.current("dns")
    assert claim is not None
    assert claim["run"] == "new"
    _claim.drop("dns", "new")
    assert _claim.current("dns") is None


def test_a_name_that_is_a_path(state: pathlib.Path) -> None:
    """Make no file outside of the directory while a refused claim is cleaned up."""
    _claim.drop("../elsewhere", "run")
    assert not list(state.parent.glob("elsewhere*"))
