# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""A host command made of a Python object, answering as docs/host-interface.md says."""

from __future__ import annotations

import json
import typing as t

FLOW = {"type": "flow", "flow_timeout": 125, "max_apps": 0, "verbose": False, "label": ""}


def group(address: str, working: int, alive: t.Iterable[int], ifindex: int = 0) -> dict[str, t.Any]:
    """A group of one application; one open socket in each generation of C(alive)."""
    ip, port = address.rsplit(":", 1)
    return {
        "address": address,
        "ip": ip.strip("[]"),
        "port": int(port),
        "netns_cookie": 1,
        "ifindex": ifindex,
        "dissector": dict(FLOW),
        "applications": [{"application": 0, "working_generation": working}],
        "generations": [
            {
                "application": 0,
                "generation": generation,
                "slot": generation % 32,
                "working": generation == working,
                "sockets": [{"index": 0, "cookie": "0x0082", "socket_cookie": 7, "alive": True}],
                "sockets_alive": 1,
                "flows": 3,
                "packets_in": 5,
                "packets_out": 5,
                "last_in_age": 0.2,
                "last_out_age": 0.2,
            }
            for generation in alive
        ],
        "metrics": {"rx_processed_total": 5},
    }


class FakeHost:
    """Runs udpgrm's commands on C(groups); C(calls) is what it was asked."""

    def __init__(self, *groups: dict[str, t.Any]) -> None:
        self.groups = list(groups)
        self.calls: list[list[str]] = []

    def __call__(self, arguments: list[str]) -> tuple[int, str, str]:
        self.calls.append(arguments)
        command, *rest = arguments
        assert rest.pop() == "--json"
        if command == "list":
            assert not rest
            daemon = {"running": True, "pid": 412}
            return self._answer(
                version="0.1.0",
                pin_dir="/sys/fs/bpf/udpgrm",
                daemon=daemon,
                cgroups=[],
                groups=self.groups,
            )
        found = [g for g in self.groups if g["address"] == rest[0]]
        if not found:
            return 255, "", f"udpgrm: no group at {rest[0]}\n"
        if command == "delete":
            self.groups.remove(found[0])
            return self._answer(address=rest[0], changed=True)
        assert command == "working-gen"
        return self._working_gen(found[0], *rest)

    def _working_gen(
        self,
        found: dict[str, t.Any],
        address: str,
        wanted: str,
        app_option: str,
        app: str,
        *check: str,
    ) -> tuple[int, str, str]:
        assert app_option == "--app" and check in ((), ("--check",))
        application = found["applications"][int(app)]
        before = application["working_generation"]
        alive = [g["generation"] for g in found["generations"] if g["sockets_alive"]]
        after = max(alive) if wanted == "newest" else int(wanted)
        if after not in alive:
            return 255, "", f"udpgrm: generation {after} of {address} has no living socket\n"
        if not check:
            application["working_generation"] = after
        return self._answer(
            address=address,
            application=int(app),
            changed=before != after,
            before=before,
            after=after,
        )

    @staticmethod
    def _answer(**document: t.Any) -> tuple[int, str, str]:
        return 0, json.dumps({"schema": 1, **document}), ""

    @property
    def changes(self) -> list[list[str]]:
        """Calls that may have changed something."""
        return [call for call in self.calls if call[0] != "list" and "--check" not in call]
