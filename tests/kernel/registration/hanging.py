# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Processes that hang in execve(2), as on a FUSE or NFS mount whose server is stuck."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from testing.host import wait_for
from udpgrm.kernel import pidfd
from udpgrm.kernel.descriptors import Unreachable

#: A file system of one file, of which close(2) waits for an answer that never comes.
_FILE_SYSTEM = """
import ctypes, os, struct, sys

INIT, LOOKUP, GETATTR, OPEN, FORGET, FLUSH, RELEASE = 26, 1, 3, 14, 2, 25, 18
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None).mount(b"hang", sys.argv[1].encode(), b"fuse", 0, options):
    sys.exit(1)
print("up", flush=True)

def attributes(node):
    mode = 0o40755 if node == 1 else 0o100644
    return struct.pack("<QQQQQQIIIIIIIIII", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 512, 0)

while True:
    request = os.read(fuse, 1 << 20)
    operation, unique, node = struct.unpack_from("<4xIQQ", request)
    if operation in (FORGET, FLUSH):
        continue
    answer = {
        INIT: struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 1, 1, 65536, 1, 0, 0, 0),
        LOOKUP: struct.pack("<QQQQII", 2, 0, 9, 9, 0, 0) + attributes(2),
        GETATTR: struct.pack("<QII", 9, 0, 0) + attributes(node),
        OPEN: struct.pack("<QII", 1, 0, 0),
        RELEASE: b"",
    }.get(operation)
    error = 0 if answer is not None else -38
    body = answer or b""
    os.write(fuse, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
"""
#: execve(2) closes the file, and waits.
_HANGS = """
import os, socket, sys
kept = socket.socket()
kept.set_inheritable(True)
os.open(sys.argv[1], os.O_RDONLY)
os.execv("/bin/sleep", ["sleep", "60"])
"""


@contextlib.contextmanager
def hung_process(mount: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that hangs; on exit its exec continues before it is ended."""
    mount.mkdir()
    file_system = subprocess.Popen(
        [sys.executable, "-c", _FILE_SYSTEM, str(mount)], stdout=subprocess.PIPE
    )
    assert file_system.stdout is not None
    assert file_system.stdout.readline() == b"up\n"
    hung = subprocess.Popen([sys.executable, "-c", _HANGS, str(mount / "file")])
    try:
        wait_for(lambda: _hangs(hung.pid), "the process to hang in execve")
        yield hung
    finally:
        file_system.kill()  # the kernel answers in its place
        file_system.wait()
        file_system.stdout.close()
        hung.kill()
        hung.wait()
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def _hangs(pid: int) -> bool:
    try:
        for _, fd in pidfd.sockets_of(pid):
            os.close(fd)
    except Unreachable:
        return True
    return False
