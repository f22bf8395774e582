# SPDX-License-Identifier: Apache-2.0
"""Hooks on cgroups: a pinned program each, and a pinned link for each cgroup."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from udpgrm.build import sources
from udpgrm.kernel import attached, bpffs, cgroups, libbpf
from udpgrm.loader import rivals

if TYPE_CHECKING:
    from udpgrm.loader.programs import Linker


_SENDMSG = [hook for hook in sources.HOOKS if hook.name in sources.SENDMSG_HOOKS]


def _program_pin(directory: Path, hook: sources.Hook) -> Path:
    return directory / "programs" / hook.name


def _link_pin(directory: Path, cgroup: Path, hook: sources.Hook) -> Path:
    return directory / "links" / f"{cgroups.identity(cgroup)}-{hook.name}"


def _links(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from sorted((directory / "links").iterdir())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = libbpf.pinned(str(path))
    try:
        yield fd
    finally:
        os.close(fd)


def load(directory: Path, linker: Linker) -> None:
    """Load and pin every hook, replacing earlier ones.

    Links of an earlier daemon switch to the new programs atomically.
    """
    loaded: dict[str, int] = {}
    wanted = [*sources.HOOKS]
    if _program_pin(directory, sources.EGRESS).exists():
        wanted.append(sources.EGRESS)
    try:
        for hook in wanted:
            loaded[hook.name] = linker.hook(hook)
        (directory / "programs").mkdir(exist_ok=True)
        (directory / "links").mkdir(exist_ok=True)
        for hook in wanted:
            bpffs.replace_pin(loaded[hook.name], _program_pin(directory, hook))
        for path in _links(directory):
            with _opened(path) as fd:
                try:
                    libbpf.link_update(fd, loaded[path.name.split("-")[1]])
                except OSError as error:
                    if error.errno != errno.ENOLINK:
                        raise
                    path.unlink()  # its cgroup is gone
    finally:
        for fd in loaded.values():
            os.close(fd)


def _unpin_removed_cgroups(directory: Path) -> None:
    """Unpin the links that the kernel has detached with their cgroup."""
    for path in _links(directory):
        # another command may do the same
        with contextlib.suppress(FileNotFoundError), _opened(path) as fd:
            if not libbpf.link_cgroup(fd):
                path.unlink()


def hooked_cgroups(directory: Path) -> list[str]:
    """Return the paths of the cgroups that have hooks."""
    return cgroups.paths_of({int(path.name.split("-")[0]) for path in _links(directory)})


def missing(directory: Path, cgroup: Path) -> list[sources.Hook]:
    """Return the hooks that a cgroup does not have itself; one above it may have them."""
    return [hook for hook in sources.HOOKS if not _link_pin(directory, cgroup, hook).exists()]


def install(directory: Path, cgroup: Path, with_sendmsg: bool, starting_over: bool = False) -> None:
    """Attach the pinned hooks to a cgroup, all or none; attached hooks are kept.

    Raises FileNotFoundError if no daemon has pinned them, attached.Taken if other programs
    prevent it. starting_over: the hooks of another daemon may be about to be detached.
    """
    _unpin_removed_cgroups(directory)
    if not starting_over:
        rivals.refuse(directory, cgroup)
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    made: list[Path] = []
    try:
        for hook in missing(directory, cgroup):
            if not with_sendmsg and hook.name in sources.SENDMSG_HOOKS:
                continue
            made.append(_attach(directory, cgroup, target, hook))
        if with_sendmsg and _program_pin(directory, sources.EGRESS).exists():
            _attach_egress(directory, cgroup, target)
    except OSError:
        for path in made:
            _detach(path)
        raise
    finally:
        os.close(target)


def _attach(directory: Path, cgroup: Path, target: int, hook: sources.Hook) -> Path:
    """Attach a pinned hook to a cgroup (fd). Returns the link's pin. Raises attached.Taken."""
    path, what = _link_pin(directory, cgroup, hook), f"the {hook.name} hook"
    attached.refuse_override(cgroup, hook.attach_type, what)
    with _opened(_program_pin(directory, hook)) as program:
        try:
            link_fd = libbpf.link_create(program, target, hook.attach_type)
        except OSError as error:
            raise attached.explain(error, cgroup, hook.attach_type, what) from error
    try:
        libbpf.pin(link_fd, str(path))
    finally:
        os.close(link_fd)
    return path


def _attach_egress(directory: Path, cgroup: Path, target: int) -> None:
    if not _link_pin(directory, cgroup, sources.EGRESS).exists():
        _attach(directory, cgroup, target, sources.EGRESS)


def attach_egress(directory: Path, linker: Linker) -> None:
    """Load the egress hook, and attach it to every cgroup that has hooks of sends.

    Raises attached.Taken and OSError.
    """
    pin = _program_pin(directory, sources.EGRESS)
    if not pin.exists():
        program = linker.hook(sources.EGRESS)
        try:
            libbpf.pin(program, str(pin))
        finally:
            os.close(program)
    for path in map(Path, hooked_cgroups(directory)):
        if any(not _link_pin(directory, path, hook).exists() for hook in _SENDMSG):
            continue
        target = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _attach_egress(directory, path, target)
        finally:
            os.close(target)


def detach_egress(directory: Path) -> None:
    """Detach the egress hook from every cgroup, and unload it."""
    pin = _program_pin(directory, sources.EGRESS)
    if not pin.exists():
        return
    for path in _links(directory):
        if path.name.endswith(f"-{sources.EGRESS.name}"):
            _detach(path)
    pin.unlink()


def _detach(path: Path) -> None:
    with contextlib.suppress(OSError), _opened(path) as fd:
        libbpf.link_detach(fd)
    path.unlink()


def uninstall(directory: Path, cgroup: Path) -> None:
    """Detach the hooks from one cgroup; its sockets are steered as before."""
    for hook in (*sources.HOOKS, sources.EGRESS):
        path = _link_pin(directory, cgroup, hook)
        if path.exists():
            _detach(path)


def detach_all(directory: Path) -> None:
    """Detach every hook from its cgroup."""
    for path in _links(directory):
        _detach(path)


def unpin(directory: Path) -> None:
    """Remove the pins of links and programs."""
    for name in ("links", "programs"):
        bpffs.remove_pins(directory / name)
