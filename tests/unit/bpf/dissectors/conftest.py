# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Fixtures of the dissectors' unit tests."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tests.unit.bpf.dissectors.keys import Keys
from tests.unit.bpf.support import compile_c


@pytest.fixture(scope="session")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Return functions of bpf/crypto and of dissectors, see functions.c."""
    source = Path(__file__).with_name("functions.c")
    target = tmp_path_factory.mktemp("functions") / "functions.so"
    return ctypes.CDLL(str(compile_c(source, target, "-shared", "-fPIC")))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Return the keys that flows have by the content of their packets, see keys.c."""
    return Keys(tmp_path_factory.mktemp("keys"))
