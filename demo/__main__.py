# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""``make demo``: deploys udpgrm on three local hosts and restarts a service under traffic.

Needs root, the packages of testbed/apt.txt, and Ansible on PATH. Leaves nothing behind
but the hosts' root tree, which the next run uses again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from demo.under_traffic import restart_under_traffic
from testing.processes import (
    FLEET,
    ROOT,
    check,
    exit_status,
    ignore_signals,
    output,
)

HOSTS = 3
SERVICE = "echo"
PORT = 4433


@contextlib.contextmanager
def fleet() -> Iterator[None]:
    """Run three hosts while the block lasts."""
    owner = str(os.getpid())
    try:
        check([FLEET, "up", str(HOSTS), owner])
        yield
    finally:
        ignore_signals()
        check([FLEET, "down", owner])


def step(text: str, since: float) -> None:
    """Say what comes next."""
    print(f"\n=== {text} (after {time.monotonic() - since:.0f} s)", flush=True)


def demo(work: Path) -> bool:
    """Run it all in a directory; True when nothing was lost."""
    since = time.monotonic()
    inventory = work / "hosts"
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(work / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    # the calls of Ansible that under_traffic makes are to see it as well
    os.environ.update(environment)
    sources = [f"--inventory={inventory}", f"--inventory={ROOT / 'demo' / 'inventory'}"]

    step("The collection is built and installed", since)
    build = [sys.executable, str(ROOT / "tools" / "build_collection")]
    tarball = output(build).splitlines()[-1]
    check(["ansible-galaxy", "collection", "install", "--offline", tarball])

    step(f"{HOSTS} hosts are started", since)
    with fleet():
        inventory.write_text(output([FLEET, "inventory", str(HOSTS)]))
        step("udpgrm and the service are deployed: udpgrm.fleet.site", since)
        check(["ansible-playbook", *sources, str(ROOT / "demo" / "playbooks" / "server.yml")])
        check(["ansible-playbook", *sources, "udpgrm.fleet.site"])
        step("The service is restarted under traffic: udpgrm.fleet.rolling_restart", since)
        restart = ["ansible-playbook", *sources, "udpgrm.fleet.rolling_restart"]
        page = ROOT / "build" / "udpgrm-report.html"
        page.parent.mkdir(exist_ok=True)
        for variable in (f"udpgrm_service={SERVICE}", "udpgrm_bake=1", f"udpgrm_report={page}"):
            restart += ["--extra-vars", variable]
        well = restart_under_traffic(inventory, SERVICE, PORT, restart)
    step("Everything is gone again", since)
    return well


def main() -> int:
    """Run the demo; exit status 1 when anything was lost or failed."""

    def run() -> bool:
        with tempfile.TemporaryDirectory(prefix="udpgrm-demo-") as directory:
            return demo(Path(directory))

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
