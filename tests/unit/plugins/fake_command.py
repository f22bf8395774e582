# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""A directory with a udpgrm command, its host's state, and a systemctl that knows one unit."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import typing as t

# Answers from, and changes, files; leaves a line per call.
COMMAND = """#!{python}
import json, pathlib, sys
sys.path.insert(0, {checkout!r})
from tests.unit.plugins.fake_host import FakeHost
from tests.unit.plugins.fake_services import FakeServices
here = pathlib.Path({here!r})
with (here / "calls").open("a") as file:
    print(*sys.argv[1:], file=file)
if sys.argv[1] in ("status", "restart", "rollback") or sys.argv[2] in ("start", "stop"):
    status, out, err = FakeServices(here / "services.json")(sys.argv[1:])
else:
    host = FakeHost(*json.loads((here / "groups.json").read_text()))
    status, out, err = host(sys.argv[1:], sys.stdin.read() if sys.argv[1] == "service" else "")
    (here / "groups.json").write_text(json.dumps(host.groups))
with (here / "answers").open("a") as file:
    print(json.dumps([sys.argv[1:], out]), file=file)
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""
SYSTEMCTL = """#!/bin/sh
[ "$1" != --no-ask-password ] || {{ verb=$2; shift 3; set -- "$verb" "$@"; }}
case "$1" in
is-enabled) echo enabled ;;
enable | disable) echo "$@" >>{here}/systemctl-calls ;;
*) echo "[Service]"; echo "ExecStart=/opt/echo --generation %i --config={here}/echo.conf" ;;
esac
"""
# What Ansible takes for the host's Python: leaves a line for each module that is run, or cannot be.
PYTHON = """#!/bin/sh
name=${{1##*AnsiballZ_}}
case "$1" in */AnsiballZ_*) echo "$name" >>{here}/modules ;; esac
if [ -e "{here}/broken-$name" ]; then cat "{here}/broken-$name" >&2; exit 1; fi
export PATH={here}:$PATH UDPGRM_STATE_DIR={here}/state UDPGRM_SERVICES_DIR={here}/services.d
exec {python} "$@"
"""


class FakeCommand:
    """The directory."""

    def __init__(
        self,
        directory: pathlib.Path,
        groups: t.Sequence[t.Any] = (),
        services: t.Sequence[t.Any] = (),
    ) -> None:
        self.path = directory
        directory.mkdir(exist_ok=True)
        (directory / "services.d").mkdir()
        (directory / "groups.json").write_text(json.dumps(list(groups)))
        self.set_services(*services)
        fields = {
            "python": sys.executable,
            "checkout": str(pathlib.Path(__file__).resolve().parents[3]),
            "here": str(directory),
        }
        for name, text in (("udpgrm", COMMAND), ("systemctl", SYSTEMCTL), ("python", PYTHON)):
            program = directory / name
            program.write_text(text.format(**fields))
            program.chmod(0o755)

    def break_module(self, name: str, message: str = "") -> None:
        """Let a module fail from now on, with a message on stderr."""
        (self.path / f"broken-{name}.py").write_text(f"{message}\n")

    def set_services(self, *services: dict[str, t.Any]) -> None:
        """Replace the services by these."""
        by_name = {item["name"]: item for item in services}
        (self.path / "services.json").write_text(json.dumps(by_name))

    @property
    def services(self) -> dict[str, dict[str, t.Any]]:
        """The services by name."""
        found: dict[str, dict[str, t.Any]] = json.loads((self.path / "services.json").read_text())
        return found

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a module that is run without Ansible."""
        return {
            "PATH": str(self.path),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "UDPGRM_STATE_DIR": str(self.path / "state"),
            "UDPGRM_SERVICES_DIR": str(self.path / "services.d"),
        }

    def _lines(self, name: str) -> list[str]:
        file = self.path / name
        return file.read_text().splitlines() if file.exists() else []

    @property
    def calls(self) -> list[str]:
        """The command lines udpgrm was run with."""
        return self._lines("calls")

    @property
    def boot_changes(self) -> list[str]:
        """The calls of systemctl that change which units start with the host."""
        return self._lines("systemctl-calls")

    @property
    def modules(self) -> list[str]:
        """The modules that Ansible has run."""
        return self._lines("modules")
