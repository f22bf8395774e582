# SPDX-License-Identifier: Apache-2.0
"""udpgrm --daemon and --install."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from udpgrm import config, log
from udpgrm.build.cache import BuildError
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.daemon import server
from udpgrm.daemon.directory import StartError
from udpgrm.kernel import bpffs, cgroups
from udpgrm.loader import hooks
from udpgrm.state.maps import StateError


def run(arguments: Arguments) -> int:
    """Run the daemon, or attach the hooks that a daemon has pinned."""
    file = arguments.given.get("--config")
    try:
        limits = config.load(file or config.DEFAULT_FILE, required=file is not None)
        cgroup = _cgroup(arguments)
    except (config.ConfigError, FileNotFoundError) as error:
        raise CommandError(str(error)) from error
    options = server.Options(
        directory=common.pin_dir(arguments),
        limits=limits,
        cgroup=cgroup,
        with_sendmsg=not arguments.flag("--without-sendmsg"),
        force=arguments.flag("--force"),
        persist=arguments.flag("--persist"),
        tubular=arguments.given.get("--tubular"),
    )
    try:
        if not arguments.flag("--daemon"):
            return _install(options)
        server.run(options)
    except (StartError, StateError, BuildError) as error:
        raise CommandError(str(error)) from error
    return 0


def _install(options: server.Options) -> int:
    assert options.cgroup is not None
    log.step(f"Installing BPF into cgroup {options.cgroup}")
    try:
        reason = bpffs.distrusted(options.directory)
        if reason is not None:
            raise CommandError(reason)
        hooks.install(options.directory, options.cgroup, options.with_sendmsg)
    except FileNotFoundError as error:
        raise CommandError(
            f"no programs in {options.directory}: start udpgrm --daemon first"
        ) from error
    return 0


def _cgroup(arguments: Arguments) -> Optional[Path]:
    if not arguments.flag("--install"):
        return None
    text = arguments.given["--install"]
    path = Path(text) if text else cgroups.default_root()
    if arguments.flag("--self"):
        path = Path(str(path) + cgroups.own_path())
    if not cgroups.is_directory(path):
        raise CommandError(f"{path} is not a cgroup2 directory")
    return path
