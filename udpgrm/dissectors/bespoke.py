# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""BESPOKE: QUIC, an application by its server name and later a socket by its connection ID."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from udpgrm import abi
from udpgrm.dissectors.kind import Kind, Options, Parameters


class Bespoke(Kind):
    """Parameters: sni ({host: application}), max_apps; digest, for the reference's clients."""

    type = abi.DissectorType.BESPOKE
    name = "bespoke"
    reads_quic = True
    #: In the order of enum quic_stage.
    stages = ("keys", "decrypt", "name", "choose")
    option = "--digest"

    def parse_options(self, options: Options) -> dict[str, Any]:
        """Return the server names and the number of the built-in."""
        return {"digest": options.digest, "sni": dict(options.sni)}

    def encode(self, parameters: Parameters) -> abi.Dissector:
        """Return the value of UDP_GRM_DISSECTOR."""
        value = super().encode(parameters)
        names = parameters["sni"]
        value.digest = parameters.get("digest", abi.DIGEST_QUIC_SNI)
        value.sni_count = len(names)
        for position, (host, application) in enumerate(names.items()):
            value.sni[position] = abi.SniEntry(app=application, hostname=host.encode())
        return value

    def describe(self, value: abi.Dissector) -> dict[str, Any]:
        """Return the server names, and max_apps if there are applications."""
        entries = value.sni[: value.sni_count]
        names = {item.hostname.decode(errors="replace"): int(item.app) for item in entries}
        return {"sni": names, **super().describe(value)}

    def example(self) -> abi.Dissector:
        """Return a value without server names."""
        return self.encode({"sni": {}})

    def applications(self, parameters: Parameters) -> Iterator[tuple[str, int]]:
        """Yield (key, application) of each server name."""
        for host, application in parameters.get("sni", {}).items():
            yield f"sni.{host}", application
