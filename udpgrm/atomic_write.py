# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Files that are replaced in one step: a reader sees the old content or the new one.

Files of restarts have one writer at a time and are written by udpgrm.restart.host instead, whose
single calls a simulation replaces.
"""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

#: Precedes the writer's pid in the name of a draft.
_MARK = ".udpgrm-"


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file's content and mode, whatever the umask. Raises OSError.

    The draft is hidden: no reader of the directory takes it for a definition, a unit or metrics.
    """
    _remove_drafts(path.parent)
    # without tempfile, whose import takes longer than the write
    draft = path.with_name(f".{path.name}{_MARK}{os.getpid()}")
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


@functools.cache
def _remove_drafts(directory: Path) -> None:
    """Remove drafts of writers that were killed; once a process is often enough."""
    for name in os.listdir(directory):
        _, mark, pid = name.rpartition(_MARK)
        if mark and name.startswith(".") and pid.isdigit():
            is_own = int(pid) == os.getpid()  # an earlier process had this pid
            if is_own or not Path("/proc", pid).exists():
                with contextlib.suppress(FileNotFoundError):  # another writer was faster
                    (directory / name).unlink()
