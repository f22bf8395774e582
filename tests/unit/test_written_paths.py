# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Every module that changes files, as root, is listed here with what keeps other users out."""

from __future__ import annotations

import ast

from testing.host import ROOT

#: Where a user other than root can write, a link of that user must not be followed.
STATE = "below the state directory: statedir.path_of refuses one that others can change"
PINS = "below the pin directory: bpffs.distrusted refuses one that others can change"
CACHE = "below the cache directory: trust.distrusted refuses one that others can change"
WRITERS = {
    "atomic_write.py": "a draft, created exclusively, that is renamed over the target",
    "build/cache.py": CACHE,
    "build/compiler.py": "a private temporary directory",
    "cli/common.py": "/dev/null",
    "cli/main.py": "/dev/null",
    "cli/rollback.py": STATE,
    "daemon/directory.py": PINS,
    "kernel/bpffs.py": PINS,
    "loader/hooks.py": PINS,
    "loader/iterators.py": PINS,
    "loader/tracepoints.py": PINS,
    "restart/first.py": "a link of systemd's, in a directory of root's, that is removed",
    "restart/foreground.py": STATE,
    "restart/host.py": STATE,
    "restart/lock.py": STATE,
    "services/define.py": "the directory of definitions, /etc/udpgrm/services.d, is root's",
    "services/instance_files.py": "/run/udpgrm/instances, in a directory of root's",
    "state/maps.py": PINS,
}
_METHODS = {
    "chmod",
    "chown",
    "hardlink_to",
    "link",
    "lchmod",
    "lchown",
    "makedirs",
    "mkdir",
    "mkfifo",
    "mknod",
    "rename",
    "rmdir",
    "rmtree",
    "symlink",
    "symlink_to",
    "touch",
    "truncate",
    "unlink",
    "write_bytes",
    "write_text",
}
_WRITING = set("wxa+")


def _writes(call: ast.Call) -> bool:
    """Return whether a call creates, changes or removes a file by its path."""
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in _METHODS:
        return True
    if "open" not in (getattr(function, "attr", ""), getattr(function, "id", "")):
        return False
    flags = {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
    texts = [
        argument.value
        for argument in (*call.args, *(keyword.value for keyword in call.keywords))
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    modes = [text for text in texts if len(text) <= 3 and _WRITING & set(text)]
    return bool(modes or flags & {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"})


def _writing_lines(text: str) -> list[int]:
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if _writes(call)]


def test_writers_are_listed() -> None:
    """List each writer in WRITERS with what keeps links of other users out.

    A new one can use atomic_write.replace instead.
    """
    package = ROOT / "udpgrm"
    found = {
        str(path.relative_to(package)): lines
        for path in sorted(package.rglob("*.py"))
        if (lines := _writing_lines(path.read_text()))
    }
    assert {name: lines for name, lines in found.items() if name not in WRITERS} == {}
    assert set(WRITERS) - set(found) == set()


def test_a_new_one_would_be_found() -> None:
    for text in (
        "open(path, 'w')",
        "path.open(mode='x')",
        "os.open(path, os.O_CREAT)",
        "path.write_text('')",
    ):
        assert _writing_lines(text) == [1], text
    for text in ("open(path)", "path.open('rb')", "os.open(path, os.O_RDONLY)"):
        assert _writing_lines(text) == [], text
