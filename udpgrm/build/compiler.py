# SPDX-License-Identifier: Apache-2.0
"""The compiler of C to templates. The only module that uses bcc; runs in a process of its own.

    python3 -m udpgrm.build.compiler DIRECTORY < jobs.json

Jobs are a list of {"file", "program"}, the latter being the fields of a
sources.Program; the instructions are written to DIRECTORY/file. Needs no
privileges: no map is created, as the sources refer to maps by constants
(bpf/kernel.h).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from udpgrm import atomic_write
from udpgrm.build.sources import Program, render
from udpgrm.files import BPF_DIR

_ARCHES = {"x86_64": "x86", "aarch64": "arm64"}


def _header_tree(directory: Path) -> Path:
    """Make stubs and links that replace kernel headers (BCC_KERNEL_SOURCE)."""
    machine = platform.machine()
    arch = _ARCHES.get(machine, machine)
    user = Path("/usr/include")
    multiarch = user / f"{machine}-linux-gnu"
    tree = directory / "headers"
    shutil.copytree(BPF_DIR / "headers", tree)
    (tree / "include/uapi").symlink_to(user)
    target = tree / "arch" / arch / "include"
    target.mkdir(parents=True, exist_ok=True)
    (target / "uapi").symlink_to(multiarch if multiarch.is_dir() else user)
    return tree


def main() -> int:
    """Compile the jobs on stdin; the compiler's output goes to stderr.

    EX_TEMPFAIL: the machine had no room for it.
    """
    try:
        return _compile()
    except (OSError, MemoryError) as error:
        print(str(error) or "out of memory", file=sys.stderr)
        return os.EX_TEMPFAIL


def _compile() -> int:
    out = Path(sys.argv[1])
    jobs = json.load(sys.stdin)
    with tempfile.TemporaryDirectory(prefix="udpgrm-build-") as scratch:
        os.environ["BCC_KERNEL_SOURCE"] = str(_header_tree(Path(scratch)))
        from bcc import BPF  # type: ignore[import-not-found, import-untyped, unused-ignore]

        for job in jobs:
            program = Program(**job["program"])
            try:
                module = BPF(text=render(program), cflags=[f"-I{BPF_DIR}", "-Wall", "-Werror"])
            except Exception as error:
                print(f"{job['file']}: {error}", file=sys.stderr)
                return 1
            code = module.dump_func(program.function.encode())
            module.cleanup()
            atomic_write.replace(out / job["file"], code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
