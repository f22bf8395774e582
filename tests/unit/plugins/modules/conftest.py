# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import pathlib

import pytest

from ..fake_host import group
from ..fake_services import service
from .machine import Machine

ADDRESS = "0.0.0.0:4433"


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    groups = [group(ADDRESS, 1, [1, 2]), group("[2001:db8::1]:53", 0, [0])]
    return Machine(tmp_path, groups, [service()])


@pytest.fixture
def empty(tmp_path: pathlib.Path) -> Machine:
    return Machine(tmp_path)
