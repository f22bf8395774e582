# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets made of kept ones, through the dissectors' C with sanitizers: packets.c.

    python3 -m tests.fuzz.packets COUNT [SEED]

Prints how many named a socket, by dissector; fails with the sanitizers' report.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz import mutations, targets
from tests.unit.bpf.support import compile_c

#: BPF may read integers at any address: alignment is not checked.
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize=alignment")
OPTIONS = (*SANITIZERS, "-fno-sanitize-recover=all", "-Wno-unknown-pragmas")
#: Packets of one run of the program.
BATCH = 100_000


def build(scratch: Path) -> Path:
    """Return the program."""
    return compile_c(Path(__file__).with_name("packets.c"), scratch / "packets", *OPTIONS)


def dissect(program: Path, packets: Iterable[bytes]) -> dict[str, int]:
    """Return how many (packet, parameters) named a socket. Raises AssertionError with a report."""
    data = b"".join(len(item).to_bytes(4, sys.byteorder) + item for item in packets)
    done = subprocess.run([str(program)], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    rows = (line.split() for line in done.stdout.decode().splitlines())
    return {name: int(count) for name, count in rows}


def main() -> int:
    """Run the command line."""
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    kept = list(targets.corpus("packets"))
    with tempfile.TemporaryDirectory(prefix="udpgrm-packets-") as scratch:
        program = build(Path(scratch))
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            found = dissect(program, mutations.mutated(kept, size, seed + start))
            print(f"{start + size} packets: {found}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
