# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Let the plugins be imported by the name they have inside Ansible.

ansible-test puts the collection below a directory ansible_collections by itself; a
plain pytest run in a checkout gets such a directory, with a link to the checkout.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
import tempfile
import typing as t

import pytest

from testing import contract

from .fake_host import FakeHost
from .playbook import INTERPRETERS, Ansible

try:
    importlib.import_module("ansible_collections.udpgrm.fleet")
except ImportError:
    _root = pathlib.Path(__file__).resolve().parents[3]
    # Kept for the life of the process: removed when this name goes away.
    _collections = tempfile.TemporaryDirectory(prefix="udpgrm-collections-")
    _parent = pathlib.Path(_collections.name, "ansible_collections", "udpgrm")
    _parent.mkdir(parents=True)
    (_parent / "fleet").symlink_to(_root, target_is_directory=True)
    sys.path.insert(0, _collections.name)
    importlib.invalidate_caches()


@pytest.fixture(autouse=True)
def fakes_answer_as_documented(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> t.Iterator[None]:
    """Check what fake commands answer against the schemas, in this process and in others."""
    monkeypatch.setattr(FakeHost, "check", staticmethod(contract.check))
    yield
    for file in tmp_path.rglob("answers"):
        for line in file.read_text().splitlines():
            contract.check(*json.loads(line))


@pytest.fixture
def ansible(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Ansible:
    """Return the newest that the collection supports, or the one that a test names."""
    return Ansible(INTERPRETERS[getattr(request, "param", "newest")], tmp_path)
