# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Paths of the files of the package that are not Python."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
#: Inside of the package if it was installed as a wheel; else beside it.
BPF_DIR = next(path for path in (_PACKAGE / "bpf", _PACKAGE.parent / "bpf") if path.is_dir())
#: The bodies of the dissectors that come with the package, a folder each.
DISSECTORS_DIR = BPF_DIR / "dissectors"
#: Templates that a distribution's package carries; compiled from the sources beside them.
TEMPLATES_DIR = _PACKAGE / "templates"
