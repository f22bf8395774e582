#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Check that every file of the checkout names its licence, and names the right one.

    tools/check_spdx.py

A file names it in one of its first lines; REUSE.toml does for those that cannot. Exits with 1
after a line for each file that is wrong.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import tomllib  # type: ignore[import-not-found]  # mypy looks at 3.10, this runs on 3.11

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = "Apache-2.0"
#: The first pattern that fits counts.
BY_PATTERN = {
    "bpf/*.md": ELSEWHERE,
    "bpf/*.py": ELSEWHERE,
    "bpf/*": "GPL-2.0-or-later",
    "benchmarks/bpf/*": "GPL-2.0-or-later",
    "plugins/*": "GPL-3.0-or-later",
}
LINES = 6
# in two parts, or other tools take this line for one
IDENTIFIER = re.compile(rb"SPDX-License" + rb"-Identifier: (\S+)")


def expected(name: str) -> str:
    """Return the licence of a file, by its path in the checkout."""
    found = (licence for pattern, licence in BY_PATTERN.items() if fnmatchcase(name, pattern))
    return next(found, ELSEWHERE)


def complaint(name: str, content: bytes, elsewhere: Mapping[str, str]) -> str | None:
    """Return what is wrong with a file; `elsewhere`: licences by pattern, as in REUSE.toml."""
    found = IDENTIFIER.search(b"\n".join(content.splitlines()[:LINES]))
    names = {found[1].decode()} if found else set()
    names |= {licence for pattern, licence in elsewhere.items() if fnmatchcase(name, pattern)}
    if names == {expected(name)} or (not names and not content):
        return None
    return f"{name}: {' and '.join(sorted(names)) or 'no licence'}, not {expected(name)}"


def named_elsewhere(reuse: str) -> dict[str, str]:
    """Licences by pattern, from the text of a REUSE.toml."""
    return {
        pattern: table["SPDX-License-Identifier"]
        for table in tomllib.loads(reuse)["annotations"]
        if "SPDX-License-Identifier" in table
        for pattern in table["path"]
    }


def checkout() -> Iterable[str]:
    """Files that git knows or would add, but the licences themselves."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for name in sorted(set(listed.stdout.split("\0")[:-1])):
        if not name.startswith("LICENSES/") and (ROOT / name).is_file():
            yield name


def main() -> int:
    """Run the command line."""
    elsewhere = named_elsewhere((ROOT / "REUSE.toml").read_text())
    found = [complaint(name, (ROOT / name).read_bytes(), elsewhere) for name in checkout()]
    complaints = [text for text in found if text]
    print(*complaints, sep="\n", end="\n" if complaints else "")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
