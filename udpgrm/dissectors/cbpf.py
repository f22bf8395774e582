# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""CBPF: a classic BPF filter of the application's names the socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udpgrm import abi
from udpgrm.dissectors.kind import Kind, Options, Parameters

if TYPE_CHECKING:
    from udpgrm.dissectors.classic import Instruction

_RETURN = 0x06


def _instructions(value: abi.Dissector) -> list[Instruction]:
    from udpgrm.dissectors.classic import Instruction

    code = value.filter[: value.filter_len]
    return [Instruction(item.code, item.jt, item.jf, item.k) for item in code]


class Cbpf(Kind):
    """Parameters: filter ([[code, jt, jf, k], ...]), max_apps."""

    type = abi.DissectorType.CBPF
    name = "cbpf"
    option = "--bpf"

    def parse_options(self, options: Options) -> dict[str, Any]:
        """Read the filter's file. Raises ValueError and OSError."""
        from udpgrm.dissectors import filter_text

        path = options.bpf or ""
        try:
            program = filter_text.parse(Path(path).read_text(encoding="ascii", errors="replace"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return {"filter": [[item.code, item.jt, item.jf, item.k] for item in program]}

    def encode(self, parameters: Parameters) -> abi.Dissector:
        """Return the value of UDP_GRM_DISSECTOR."""
        value = super().encode(parameters)
        program = parameters["filter"]
        value.filter_len = len(program)
        for position, instruction in enumerate(program):
            value.filter[position] = abi.CbpfInstruction(*instruction)
        return value

    def describe(self, value: abi.Dissector) -> dict[str, Any]:
        """Return the filter, and max_apps if there are applications."""
        code = value.filter[: value.filter_len]
        program = [[item.code, item.jt, item.jf, item.k] for item in code]
        return {"filter": program, **super().describe(value)}

    def example(self) -> abi.Dissector:
        """Return a filter that makes every packet a new flow."""
        return self.encode({"filter": [[_RETURN, 0, 0, abi.GENERATION_NONE]]})

    def problems(self, parameters: Parameters) -> Iterator[tuple[str, str]]:
        """Yield the loads that fail in a steering program."""
        for position in self.failing_loads(self.encode(parameters)):
            reason = "loads ancillary data, which a steering program has not (docs/limits.md)"
            yield f"filter.{position}", reason

    def functions(self, value: abi.Dissector) -> dict[int, bytes]:
        """Return the filter as eBPF; none for an empty one, which its program does not call."""
        from udpgrm.dissectors import filter_code

        program = _instructions(value)
        return {abi.LinkedFunction.FILTER: filter_code.convert(program)} if program else {}

    def faults(self, value: abi.Dissector) -> list[str]:
        """Return the faults of instructions that cannot be run."""
        from udpgrm.dissectors import filter_code

        return filter_code.faults(_instructions(value))

    def failing_loads(self, value: abi.Dissector) -> tuple[int, ...]:
        """Return the positions of loads of what there is only for socket filters."""
        from udpgrm.dissectors import classic

        return tuple(classic.loads_beside_packet(_instructions(value)))

    def filter_length(self, value: abi.Dissector) -> int:
        """Return how many instructions the filter has."""
        return int(value.filter_len)
