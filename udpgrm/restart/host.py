# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The operating system that a restart runs on: clocks, boot, files, locks, programs, signals.

A restart's result depends on these calls, and on the kernel's groups (groups.py, evidence.py).
They are methods of one object, so that a simulation can replace the host as a whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Optional, Protocol

from udpgrm.kernel import cgroups

if TYPE_CHECKING:
    import subprocess  # commands that start nothing do without

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SYSTEMD = Path("/run/systemd/system")


class Program(Protocol):
    """A program that was started, as subprocess.Popen is."""

    def poll(self) -> Optional[int]:
        """Return the exit status; None: it runs."""
        ...

    def kill(self) -> None:
        """End it, if it runs."""
        ...

    def communicate(self) -> tuple[str, str]:
        """Wait for its end, and return what it printed to stdout and stderr."""
        ...


class LockFile(Protocol):
    """An open file that can be locked: flock(2)."""

    def try_lock(self, shared: bool = False) -> bool:
        """Lock the file; return False if another process has a lock that excludes this one."""
        ...

    def write(self, text: str) -> None:
        """Replace the content. Raises OSError."""
        ...


class _LockFile:
    """A lock file of this host."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def try_lock(self, shared: bool = False) -> bool:
        """Lock the file; return False if another process has a lock that excludes this one."""
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, text: str) -> None:
        """Replace the content. Raises OSError."""
        self._file.truncate(0)
        try:
            os.write(self._file.fileno(), text.encode())  # a buffer would fail again at its end
        except OSError as error:
            error.filename = self._file.name
            raise


def lock_opener(path: str, flags: int) -> int:
    """Open a lock file: no link, and for root only, as a user who may read a file may lock it."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


class Host:
    """The real operating system. File operations raise OSError."""

    def time(self) -> float:
        """Return the seconds since 1970, of a clock that may be set."""
        return time.time()

    def monotonic(self) -> float:
        """Return the seconds since some time of this boot."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def boot_id(self) -> str:
        """Return the ID of this boot, of the machine or the container: random(4)."""
        return _BOOT_ID.read_text(encoding="ascii").strip()

    def read(self, path: Path) -> str:
        """Return the text of a file. Raises UnicodeDecodeError, too."""
        return path.read_text(encoding="utf-8")

    def create(self, path: Path, text: str, durable: bool = True) -> None:
        """Write a new file; durable: its text is on the disk then, its name may not be."""
        with path.open("x", encoding="utf-8") as file:  # "x" follows no link
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file, in place of another one: rename(2)."""
        source.replace(target)

    def sync(self, directory: Path) -> None:
        """Write a directory to the disk: the names of its files."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def touch(self, path: Path) -> None:
        """Create an empty file unless it exists."""
        path.touch()

    def exists(self, path: Path) -> bool:
        """Return whether a file exists."""
        return path.exists()

    def delete(self, path: Path) -> None:
        """Delete a file, if it exists."""
        path.unlink(missing_ok=True)

    def find(self, directory: Path, pattern: str) -> list[Path]:
        """Return the files of a directory by a pattern, sorted; without a directory, none."""
        return sorted(directory.glob(pattern))

    def make_directory(self, path: Path) -> None:
        """Create a directory, with those above it, unless it exists."""
        path.mkdir(mode=0o755, parents=True, exist_ok=True)

    def reserve(self, directory: Path, size: int) -> None:
        """Check that a directory's disk has room for so many bytes."""
        import tempfile

        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def lock_file(self, path: Path, create: bool) -> Iterator[LockFile]:
        """Open a file to lock it; the end of the with block, or of the process, unlocks it."""
        if create:
            with open(path, "a+", encoding="utf-8", opener=lock_opener) as file:
                yield _LockFile(file)
        else:
            with path.open(encoding="utf-8") as file:
                yield _LockFile(file)

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in a session of its own: a Ctrl-C is for us."""
        import subprocess

        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )

    def start(self, command: Sequence[str]) -> Program:
        """Start a program, in a session of its own; its stderr is kept."""
        import subprocess

        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def spawn(self, command: Sequence[str]) -> None:
        """Start a program that outlives this one."""
        import subprocess

        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def processes(self, cgroup: Path) -> list[int]:
        """Return the processes of a cgroup and of those below it."""
        return cgroups.processes(cgroup)

    def pid(self) -> int:
        """Return the ID of this process."""
        return os.getpid()

    def send(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process. Raises OSError."""
        os.kill(pid, number)

    def was_killed(self, pid: int) -> bool:
        """Return whether a process ends as soon as the kernel lets it: SIGKILL is pending."""
        try:
            text = Path(f"/proc/{pid}/status").read_text(errors="replace")
        except OSError:
            return False
        fields = dict(line.partition(":\t")[::2] for line in text.splitlines())
        pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
        return bool(pending >> (signal.SIGKILL - 1) & 1)

    def runs_systemd(self) -> bool:
        """Return whether systemd is this machine's init: sd_booted(3)."""
        return _SYSTEMD.is_dir()

    @contextlib.contextmanager
    def signals(
        self, numbers: Sequence[signal.Signals], handler: Callable[[int, object], None]
    ) -> Iterator[None]:
        """Handle signals while the with block lasts."""
        before = {number: signal.signal(number, handler) for number in numbers}
        try:
            yield
        finally:
            for number, earlier in before.items():
                signal.signal(number, earlier)


#: The host that restarts run on.
current = Host()


def rewrite(path: Path, text: str, durable: bool = True) -> None:
    """Replace a file's text; durable: it is on the disk before its name. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    current.delete(draft)  # left by a killed process
    current.create(draft, text, durable)
    current.replace(draft, path)


def want_room(directory: Path, size: int) -> None:
    """Check that a directory's disk, or its parent's where it is missing, has room for some bytes.

    Raises OSError.
    """
    try:
        current.reserve(directory, size)
    except FileNotFoundError:
        want_room(directory.parent, size)
