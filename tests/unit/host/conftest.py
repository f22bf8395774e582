# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Fixtures of the host package's unit tests."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import settings

from tests.unit.host.support import load_functions

# what takes long on a busy machine is no failure
settings.register_profile("host", deadline=None)
settings.load_profile("host")


@pytest.fixture(scope="session")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Functions of bpf/*.h, see functions.c."""
    return load_functions(tmp_path_factory.mktemp("functions"))
