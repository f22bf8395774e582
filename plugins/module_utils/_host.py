# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The udpgrm command of a host: run it with --json, check what came back."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils._address import Address, parse_address

SCHEMA = 1

# Runs udpgrm with these arguments; returns (exit status, stdout, stderr).
Runner = t.Callable[[list[str]], tuple[int, str, str]]
JsonObject = dict[str, t.Any]


class HostError(Exception):
    """The command failed or answered something that is not its documented JSON."""


class Host:
    """One host's udpgrm command, through a function that runs it."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    def read(self) -> JsonObject:
        """Return the document of C(udpgrm list --json). Raises HostError."""
        return self._call("list")

    def set_working_gen(
        self, address: Address, generation: str, application: int, check: bool
    ) -> JsonObject:
        """Make a generation (a number or V(newest)) the working one; only say what would change if C(check).

        Returns the command's document with C(changed), C(before) and C(after). Raises HostError.
        """
        arguments = [str(address), generation, "--app", str(application)]
        return self._call("working-gen", *arguments, *(["--check"] if check else []))

    def delete(self, address: Address) -> JsonObject:
        """Forget the group's state. Raises HostError, also when there is no such group."""
        return self._call("delete", str(address))

    def _call(self, command: str, *arguments: str) -> JsonObject:
        status, out, err = self._run([command, *arguments, "--json"])
        if status != 0:
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


def groups_at(document: JsonObject, addresses: t.Collection[Address]) -> list[JsonObject]:
    """Return the groups of a C(list) document that have one of the addresses, in the document's order."""
    return [group for group in document["groups"] if parse_address(group["address"]) in addresses]
