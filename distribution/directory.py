# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Write generated files into a directory, for the generators whose command line names one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Optional


def write(directory: Path, texts: dict[str, str], mode: Optional[int] = None) -> None:
    """Write files by name, with the mode if one is given."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (directory / name).write_text(text)
        if mode is not None:
            (directory / name).chmod(mode)


def main(module: str, texts: Callable[[], dict[str, str]], mode: Optional[int] = None) -> int:
    """Run the command line of a generator: DIRECTORY."""
    if len(sys.argv) != 2:
        print(f"usage: python3 -m distribution.{module} DIRECTORY", file=sys.stderr)
        return 2
    write(Path(sys.argv[1]), texts(), mode)
    return 0
