# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Numbers of the kernel that are written down here, against the kernel's own headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.bpf.support import BPF, ROOT, evaluate
from udpgrm.kernel import clock, libbpf, ringbuf, sockopt
from udpgrm.loader import programs

PREFIXES = {"MAP": "BPF_MAP_TYPE", "PROG": "BPF_PROG_TYPE", "F": "BPF_F"}


def kernel_name(name: str) -> str:
    """Return the name that linux/bpf.h gives a constant of udpgrm.kernel.libbpf."""
    head, _, rest = name.partition("_")
    return f"{PREFIXES[head]}_{rest}" if head in PREFIXES else f"BPF_{name}"


NUMBERS = {
    kernel_name(name): value
    for name, value in vars(libbpf).items()
    if name.isupper() and isinstance(value, int)
}
NUMBERS.update(
    {
        "BPF_RINGBUF_BUSY_BIT": ringbuf._BUSY,
        "BPF_RINGBUF_DISCARD_BIT": ringbuf._DISCARDED,
        "BPF_RINGBUF_HDR_SZ": ringbuf._HEADER.size,
        "BPF_FUNC_get_ns_current_pid_tgid": programs._HELPER_NS_PID,
        "BPF_FUNC_jiffies64": int.from_bytes(clock._CALL[4:], "little"),
    }
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return evaluate(tmp_path_factory.mktemp("numbers"), "#include <linux/bpf.h>", NUMBERS)


@pytest.mark.parametrize("name, value", NUMBERS.items())
def test_bpf(compiled: dict[str, int], name: str, value: int) -> None:
    assert compiled[name] & 0xFFFFFFFF == value


HEADERS = "".join(
    f"#include <{name}>\n"
    for name in (
        *("errno.h", "netinet/in.h", "netinet/tcp.h", "sys/socket.h", "asm/socket.h"),
        "linux/udp.h",
    )
)


def test_the_numbers_of_socket_options(tmp_path: Path) -> None:
    written = {
        name: value
        for name, value in vars(sockopt).items()
        if name.isupper() and isinstance(value, int)
    }
    assert len(written) > 10
    assert evaluate(tmp_path, HEADERS, written) == written


def test_socket_options_have_one_home() -> None:
    """Allow no module or header but two a number of its own for an option."""
    own = re.compile(r"^\s*_?(?:SO|IP|IPV6|UDP|MCAST)_[A-Z_]+ = \d+", re.MULTILINE)
    options = {name for name in vars(sockopt) if name.isupper()}
    homes = {ROOT / "udpgrm/kernel/sockopt.py", BPF / "kernel.h"}
    files = [*(ROOT / "udpgrm").rglob("*.py"), *BPF.rglob("*.[ch]")]
    found = {
        (str(file.relative_to(ROOT)), line.strip())
        for file in files
        if file not in homes
        for line in own.findall(file.read_text())
        if line.strip().partition(" = ")[0].lstrip("_") in options
    }
    assert found == set()


def test_bpf_c_knows_the_right_errnos_families_and_options(tmp_path: Path) -> None:
    bodies = re.findall(
        r"^enum \{(.*?)\}", (BPF / "kernel.h").read_text(), re.DOTALL | re.MULTILINE
    )
    written = {
        name: int(value) for body in bodies for name, value in re.findall(r"(\w+) = (\d+)", body)
    }
    assert len(written) > 10
    assert evaluate(tmp_path, HEADERS, written) == written
