# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Share fixtures between the unit tests of several folders."""

from __future__ import annotations

import ctypes
import os

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.bpf.support import load_functions

# What takes long on a busy machine is no failure. A landing is evaluated by its change, with the
# same examples each time; elsewhere every run tries others.
settings.register_profile(
    "unit",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("unit")


@pytest.fixture(scope="session")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Return functions of bpf/*.h, see bpf/functions.c."""
    return load_functions(tmp_path_factory.mktemp("functions"))
