# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the imports of scripts outside of this repository."""

from __future__ import annotations

import subprocess
import sys

from testing import contract
from testing.host import ROOT

#: With what a host has beside Python; the packages of requirements-dev.txt are not there.
_SCRIPT = """
import sys
from pathlib import Path
for name in ("pytest", "jsonschema", "referencing"):
    sys.modules[name] = None
from tests.kernel import support
from tests.kernel.support import Host
support.COMMAND[:0] = ["env"]  # before every command of a host
done = Host(Path(sys.argv[1]), Path(), Path()).run("status", "--json")
print(done.args[0], done.returncode)
"""


def test_a_hosts_own_python_is_enough() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, "/nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "env 0\n"
    assert contract.READS_SCHEMAS  # in the tests themselves
