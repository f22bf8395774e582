# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Fixtures of the dissector library's unit tests."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hypothesis import settings

from tests.unit.host.support import ROOT, compile_c

# what takes long on a busy machine is no failure
settings.register_profile("library", deadline=None)
settings.load_profile("library")


@pytest.fixture(scope="session")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Functions of bpf/, see functions.c."""
    source = Path(__file__).with_name("functions.c")
    target = tmp_path_factory.mktemp("functions") / "functions.so"
    return ctypes.CDLL(str(compile_c(source, target, "-shared", "-fPIC")))


@pytest.fixture
def shipped() -> Path:
    """The dissectors that come with the package."""
    return ROOT / "bpf" / "dissectors"
