# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import pytest

from tests.unit.bpf.dissectors.bespoke.code import Code, Sanitized


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Code:
    """Return the C code, compiled for this machine."""
    return Code(tmp_path_factory.mktemp("bespoke"))


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Sanitized:
    """Return the C code as a program with sanitizers."""
    return Sanitized(tmp_path_factory.mktemp("sanitized"))
