# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""What unit tests of several folders share."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import settings

from tests.unit.bpf.support import load_functions

# what takes long on a busy machine is no failure
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")


@pytest.fixture(scope="session")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Return functions of bpf/*.h, see bpf/functions.c."""
    return load_functions(tmp_path_factory.mktemp("functions"))
