# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Files that are replaced in one step: a reader sees the old content or the new one.

Journals of restarts are written through udpgrm.restart.host instead, which a simulation replaces.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file's content and mode, whatever the umask. Raises OSError.

    The draft is hidden: no reader of the directory takes it for a definition, a unit or metrics.
    """
    # without tempfile, whose import takes longer than the write
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()  # of a process that was killed
    try:
        with open(draft, "xb") as file:  # "x" follows no link
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
