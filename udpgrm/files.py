# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Where the files of the package lie that are not Python's."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
#: Inside of the package when it came as a wheel; else beside it.
BPF_DIR = next(path for path in (_PACKAGE / "bpf", _PACKAGE.parent / "bpf") if path.is_dir())
#: The bodies of the dissectors that come with the package, a folder each.
DISSECTORS_DIR = BPF_DIR / "dissectors"
