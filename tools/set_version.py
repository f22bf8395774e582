#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Set the version where each tool looks for it.

    tools/set_version.py VERSION

The version is that of udpgrm/version.py. Ansible reads it from galaxy.yml, Cargo from Cargo.toml.
What modules and options were added in (version_added) follows until the version is released.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Files, each with the expression that finds its version.
PLACES = {
    "udpgrm/version.py": r'(?<=^__version__ = ")[^"]+',
    "galaxy.yml": r"(?<=^version: )\S+",
    "clients/rust/Cargo.toml": r'(?<=^version = ")[^"]+',
    "clients/rust/tokio/Cargo.toml": r'(?<=^version = ")[^"]+',
}
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(\.post[0-9]+)?")
RELEASED = "changelogs/changelog.yaml"


def version_of(root: Path, name: str) -> str:
    """Return the version in a file."""
    found = re.search(PLACES[name], (root / name).read_text(), re.MULTILINE)
    assert found is not None, name
    return found[0]


def set_version(root: Path, version: str) -> None:
    """Write a version into the files of a checkout."""
    old = version_of(root, "udpgrm/version.py")
    for name, pattern in PLACES.items():
        path = root / name
        path.write_text(re.sub(pattern, version, path.read_text(), count=1, flags=re.MULTILINE))
    changelog = root / RELEASED
    if changelog.exists() and f"\n  {old}:\n" in changelog.read_text():
        return
    added = re.compile(rf"(?<=version_added: ){re.escape(old)}$", re.MULTILINE)
    for path in (root / "plugins").rglob("*.*"):
        if path.suffix not in (".py", ".yml"):  # filters are documented in files of their own
            continue
        text = path.read_text()
        if added.search(text):
            path.write_text(added.sub(version, text))


def main() -> int:
    """Run the command line."""
    if len(sys.argv) != 2 or not VERSION.fullmatch(sys.argv[1]):
        print("usage: tools/set_version.py VERSION", file=sys.stderr)
        return 2
    set_version(ROOT, sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
