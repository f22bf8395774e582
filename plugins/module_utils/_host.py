# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A host: its udpgrm command, run with --json, whose answers are checked; its boot, its journals."""

from __future__ import annotations

import json
import os
import pathlib
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

SCHEMA = 1
SERVICE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# The release that is a fingerprint.
AUTO = "auto"
DEFAULT_DIRECTORY = "/var/lib/udpgrm/restarts"
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")

# Runs udpgrm with these arguments and this standard input; returns (exit status, stdout, stderr).
Runner = t.Callable[[list[str], str], tuple[int, str, str]]
JsonObject = dict[str, t.Any]


class HostError(Exception):
    """Raised when the command fails, or its answer is not the documented JSON."""


def state_directory() -> pathlib.Path:
    """Return the directory of journals, by the environment variable of the host's command."""
    return pathlib.Path(os.environ.get("UDPGRM_STATE_DIR", DEFAULT_DIRECTORY))


def boot_id() -> str:
    """Return the ID of this boot of the host."""
    return _BOOT_ID.read_text(encoding="utf-8").strip()


def service_name(text: str) -> str:
    """Return a valid name of a service. Raises HostError for any other text."""
    if not SERVICE_NAME.fullmatch(text):
        raise HostError(
            f"not a name of a service: {text!r}; it has up to 64 lower-case letters, digits, _ and -"
        )
    return text


def operand(address: str) -> str:
    """Return an address, which the host reads, if it cannot be taken for an option. Raises HostError."""
    if address.startswith("-"):
        raise HostError(f"not an address: {address!r}")
    return address


class Host:
    """A host's udpgrm command, through a function that runs it."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    @classmethod
    def of_module(cls, module: AnsibleModule) -> Host:
        """Return the host that a module runs on; without the command the module fails."""
        executable = module.get_bin_path("udpgrm")
        if executable is None:
            module.fail_json(
                msg="udpgrm is not installed on this host; the playbook udpgrm.fleet.site installs it"
            )
        return cls(
            lambda arguments, text: module.run_command([executable, *arguments], data=text or None)
        )

    def read(self, *addresses: str) -> JsonObject:
        """Return the answer of C(udpgrm list) for the groups at some addresses, or for all. Raises HostError."""
        return self._call("list", *map(operand, addresses))

    def set_working_gen(
        self, address: str, generation: str, application: int, check: bool
    ) -> JsonObject:
        """Make a generation (a number or V(newest)) the working one; only predict the change if C(check).

        Returns the command's document with C(changed), C(before) and C(after). Raises HostError.
        """
        arguments = [operand(address), generation, "--app", str(application)]
        return self._call("working-gen", *arguments, *(["--check"] if check else []))

    def delete(self, address: str) -> JsonObject:
        """Delete the group's state. Raises HostError, also if there is no such group."""
        return self._call("delete", operand(address))

    def start(self, service: str, adopt: str | None, check: bool) -> JsonObject:
        """Start a service's first instance, or adopt the unit that serves; only predict the change if C(check).

        Returns the command's document with C(changed), C(units) and C(notes). Raises HostError.
        """
        options = [*([f"--adopt={adopt}"] if adopt else []), *(["--check"] if check else [])]
        return self._call("service", "start", service, *options)

    def stop(self, service: str, check: bool) -> JsonObject:
        """Stop a service, unless flows would be lost. Returns the command's document with C(units). Raises HostError."""
        return self._call("service", "stop", service, *(["--check"] if check else []))

    def plan(self, service: str, release: str | None) -> JsonObject:
        """Return what it takes until a release serves; None: a fingerprint. Raises HostError if that would be refused."""
        return self._call("restart", service, "--check", f"--release={release or AUTO}")

    def restart(self, service: str, release: str | None, until: str) -> JsonObject:
        """Restart a service unless the release serves, and wait. Returns the journal. Raises HostError."""
        return self._restart(service, f"--release={release or AUTO}", until)

    def resume(self, service: str, until: str) -> JsonObject:
        """Resume a restart that was interrupted or has failed, and wait. Returns the journal. Raises HostError."""
        return self._restart(service, "--resume", until)

    def follow(self, service: str, until: str, limit: int | None = None) -> JsonObject:
        """Wait for a restart, C(limit) seconds at most. Returns the journal. Raises HostError."""
        timeout = [] if limit is None else [f"--timeout={limit}"]
        return self._restart(service, "--follow", until, *timeout)

    def _restart(self, service: str, how: str, until: str, *options: str) -> JsonObject:
        # finished, rolled back, failed, continues
        statuses = (0, 1, 2, 3)
        return self._call("restart", service, how, f"--until={until}", *options, statuses=statuses)

    def roll_back(self, service: str, until: str) -> JsonObject:
        """Roll a restart back, and wait. Returns the journal. Raises HostError."""
        return self._call("rollback", service, f"--until={until}", statuses=(0, 2, 3))

    def status(self, service: str | None = None) -> JsonObject:
        """Return services with their groups and last restart: all, or one. Raises HostError."""
        return self._call("status", *([] if service is None else [service]))

    def define(self, service: str, text: str, check: bool) -> JsonObject:
        """Write a service's definition; only predict the change if C(check).

        Returns the command's document with C(path), C(changed), C(before) and C(after). Raises
        HostError, with every problem of a definition that is not valid.
        """
        options = ["--check"] if check else []
        answer = self._call("service", "define", service, *options, text=text, statuses=(0, 1))
        if answer["problems"]:
            problems = "; ".join(
                ": ".join(
                    filter(None, (item["file"].rpartition("/")[2], item["key"], item["reason"]))
                )
                for item in answer["problems"]
            )
            raise HostError(f"the definition is not valid: {problems}")
        return answer

    def remove(self, service: str, check: bool) -> JsonObject:
        """Remove a service's definition; only predict the change if C(check). Raises HostError."""
        options = ["--check"] if check else []
        return self._call("service", "remove", service, "--lose-flows", *options)

    def hooks(self, action: str, cgroup: str, check: bool) -> JsonObject:
        """Attach (V(add)) or detach (V(remove)) a cgroup's hooks. Raises HostError."""
        return self._call("hooks", action, cgroup, *(["--check"] if check else []))

    def probe(self, address: str, count: int, timeout: int) -> JsonObject:
        """Send packets to a group and return where they went. Raises HostError."""
        options = ["--count", str(count), "--timeout", str(timeout)]
        return self._call("probe", operand(address), *options, statuses=(0, 1))

    def drain(
        self, address: str, generation: int, application: int, until: JsonObject, limit: int
    ) -> JsonObject:
        """Wait C(limit) seconds at most until a generation has drained; V(until) may have flows, quiet. Raises HostError."""
        options = ["--app", str(application), "--max", str(limit)]
        for name in ("flows", "quiet"):
            if until.get(name) is not None:
                options += [f"--{name}", str(until[name])]
        return self._call("drain", operand(address), str(generation), *options, statuses=(0, 1))

    def dissector(self, action: str, *operands: str, check: bool = False) -> JsonObject:
        """Run C(udpgrm dissector). Raises HostError; a failed C(check) is an answer."""
        statuses = (0, 1) if action == "check" else (0,)
        options = ["--check"] if check else []
        return self._call("dissector", action, *operands, *options, statuses=statuses)

    def _call(
        self, command: str, *arguments: str, text: str = "", statuses: t.Collection[int] = (0,)
    ) -> JsonObject:
        status, out, err = self._run([command, *arguments, "--json"], text)
        if status not in statuses:
            reason = err.strip().removeprefix("udpgrm: ") or f"exit status {status}"
            raise HostError(f"udpgrm {command}: {reason}")
        try:
            document = json.loads(out)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise HostError(
                f"udpgrm {command} --json did not print a JSON object: {out.strip()[:200]!r}"
            )
        if document.get("schema") != SCHEMA:
            raise HostError(
                f"udpgrm {command} --json speaks schema {document.get('schema')!r}, this collection needs {SCHEMA}"
            )
        return document
