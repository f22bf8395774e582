# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the licence check on files that pass it and on others."""

from __future__ import annotations

import pytest

from tools.check_spdx import complaint, expected, named_elsewhere

# in two parts: this file has one licence only
TAG = b"SPDX-License" + b"-Identifier: "
REUSE = """
version = 1
[[annotations]]
path = ["lists/*.txt", "CHANGELOG.md"]
SPDX-License-Identifier = "Apache-2.0"
[[annotations]]
path = ["**"]
SPDX-FileCopyrightText = "Somebody"
"""


@pytest.mark.parametrize(
    "name, licence",
    [
        ("bpf/hooks/bind.c", "GPL-2.0-or-later"),
        ("bpf/dissectors/quic/README.md", "Apache-2.0"),
        ("bpf/dissectors/quic/packets.py", "Apache-2.0"),
        ("plugins/modules/udpgrm_info.py", "GPL-3.0-or-later"),
        ("tests/unit/plugins/conftest.py", "Apache-2.0"),
        ("README.md", "Apache-2.0"),
    ],
)
def test_each_folder_has_its_licence(name: str, licence: str) -> None:
    assert expected(name) == licence


@pytest.mark.parametrize(
    "name, content",
    [
        ("udpgrm/abi.py", b"#!/usr/bin/python3\n# " + TAG + b"Apache-2.0\n"),
        ("docs/architecture.md", b"<!-- " + TAG + b"Apache-2.0 -->\n"),
        ("plugins/modules/x.py", b"#\n" * 5 + b"# " + TAG + b"GPL-3.0-or-later\n"),
        ("udpgrm/__init__.py", b""),
        ("lists/a.txt", b"make\n"),
    ],
)
def test_right(name: str, content: bytes) -> None:
    assert complaint(name, content, named_elsewhere(REUSE)) is None


@pytest.mark.parametrize(
    "name, content, found",
    [
        ("udpgrm/abi.py", b"import os\n", "no licence"),
        ("udpgrm/abi.py", b"#\n" * 6 + b"# " + TAG + b"Apache-2.0\n", "no licence"),
        ("bpf/abi.h", b"/* " + TAG + b"Apache-2.0 */\n", "Apache-2.0"),
        ("bpf/hooks/bind.c", b"// " + TAG + b"GPL-2.0-only\n", "GPL-2.0-only"),
        ("lists/a.txt", b"# " + TAG + b"MIT\nmake\n", "Apache-2.0 and MIT"),
    ],
)
def test_wrong(name: str, content: bytes, found: str) -> None:
    text = complaint(name, content, named_elsewhere(REUSE))
    assert text == f"{name}: {found}, not {expected(name)}"
