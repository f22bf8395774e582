# SPDX-License-Identifier: Apache-2.0
"""The cache of templates on disk, by a hash of their source and of the compiler.

A package may carry templates as well: they serve on hosts without a compiler, or with another.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Optional

from udpgrm.build import sources
from udpgrm.build.sources import Program
from udpgrm.files import TEMPLATES_DIR
from udpgrm.kernel import trust

DEFAULT_DIR = "/var/cache/udpgrm"
#: Exit statuses that say nothing of the program, and why the compiler ended.
_STOPPED = {
    -signal.SIGKILL: "killed (out of memory?)",
    -signal.SIGTERM: "terminated",
    os.EX_TEMPFAIL: "no room",
}
#: Templates of the package that did not load in this process.
_discarded: set[Path] = set()


class BuildError(Exception):
    """Raised when a program cannot be compiled; the message has the compiler's output."""


class Unavailable(BuildError):
    """Raised when the machine cannot run a compiler now, or has no room: it may later."""


def directory() -> Path:
    """Return the directory of templates: UDPGRM_CACHE_DIR or /var/cache/udpgrm."""
    return Path(os.environ.get("UDPGRM_CACHE_DIR", DEFAULT_DIR))


def _want_trusted(where: Path) -> None:
    """Raise Unavailable unless only root can change the content of root's directory."""
    reason = trust.distrusted(where)
    if reason is not None:
        raise Unavailable(f"cannot use the cache directory {where}: {reason}")


@lru_cache(maxsize=1)
def _compiler() -> str:
    """Return bcc's version, without importing it (that takes 100 MB); "" without bcc."""
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        return ""
    return (Path(spec.origin).parent / "version.py").read_text()


def _prefix(program: Program) -> str:
    return f"{program.name}-{sources.sources_digest()[:16]}-"


def _file_name(program: Program) -> str:
    return f"{_prefix(program)}{hashlib.sha256(_compiler().encode()).hexdigest()[:8]}.bpf"


def _find(program: Program) -> Optional[Path]:
    """Return the path of a program's template: the compiler's, else a delivered one.

    Without a compiler, any template of the cache directory counts as delivered.
    """
    pattern = f"{_prefix(program)}*.bpf"
    if not _compiler():
        found = min(directory().glob(pattern), default=None)
    else:
        path = directory() / _file_name(program)
        found = path if path.exists() else None
    if found is not None:
        return found
    return min(set(TEMPLATES_DIR.glob(pattern)) - _discarded, default=None)


def missing(programs: Sequence[Program]) -> list[Program]:
    """Return the programs that have no template yet."""
    return [item for item in programs if _find(item) is None]


class Compilation:
    """A process that compiles programs; it takes 150 MB, for about a second."""

    def __init__(self, programs: Sequence[Program]) -> None:
        """Start the compiler. Raises BuildError if there is none."""
        where = directory()
        try:
            where.mkdir(mode=0o755, parents=True, exist_ok=True)
            _want_trusted(where)
            tempfile.TemporaryFile(dir=where).close()
        except OSError as error:
            raise Unavailable(
                f"cannot use the cache directory {where}: {error.strerror} "
                "(UDPGRM_CACHE_DIR names another)"
            ) from error
        if not _compiler():
            raise BuildError(
                "no compiler: install python3-bpfcc for "
                f"{sys.executable}, or deliver templates in {where}"
            )
        jobs = [{"file": _file_name(item), "program": vars(item)} for item in programs]
        package_root = str(Path(__file__).resolve().parents[2])
        with contextlib.ExitStack() as undo:
            try:
                output = undo.enter_context(os.fdopen(os.memfd_create("udpgrm-compiler"), "w+"))
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "udpgrm.build.compiler", str(where.resolve())],
                    stdin=subprocess.PIPE,
                    # -m imports from the working directory first
                    cwd=package_root,
                    stdout=subprocess.DEVNULL,
                    stderr=output,
                    text=True,
                )
            except OSError as error:
                raise Unavailable(f"cannot start a compiler: {error.strerror}") from error
            undo.pop_all()
        self._output = output
        assert self._process.stdin is not None
        with self._process.stdin as jobs_out, contextlib.suppress(BrokenPipeError):
            json.dump(jobs, jobs_out)

    @property
    def pid(self) -> int:
        """Return the compiler's pid."""
        return self._process.pid

    def finish(self) -> None:
        """Wait for the end. Raises BuildError with the compiler's output."""
        status = self._process.wait()
        with self._output:
            self._output.seek(0)
            message = self._output.read().strip()
        if status in _STOPPED:
            raise Unavailable(f"the compiler was stopped: {message or _STOPPED[status]}")
        if status:
            raise BuildError(f"compilation failed: {message or f'exit status {status}'}")


def compile_missing(programs: Sequence[Program]) -> list[Program]:
    """Compile the programs without a template, and return them. Raises BuildError."""
    todo = missing(programs)
    if todo:
        Compilation(todo).finish()
    return todo


def discard(programs: Sequence[Program]) -> bool:
    """Remove templates, so that they are compiled again; return False without a compiler."""
    if not _compiler():
        return False
    for program in programs:
        found = _find(program)
        if found is not None and found.parent == TEMPLATES_DIR:
            _discarded.add(found)
        elif found is not None:
            found.unlink(missing_ok=True)
    return True


def template(program: Program) -> bytes:
    """Return a program's instructions, whose references are not linked yet.

    Raises FileNotFoundError if it was not compiled yet, Unavailable if a user other than root
    could have written it.
    """
    found = _find(program)
    if found is None:
        raise FileNotFoundError(2, f"no template of {program.name} in {directory()}")
    _want_trusted(found.parent)
    return found.read_bytes()
