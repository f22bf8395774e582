# SPDX-License-Identifier: Apache-2.0
"""The kernel's jiffies, the clock of flows and packets."""

from __future__ import annotations

import os
import time

from udpgrm.kernel import libbpf

# r0 = bpf_jiffies64() (helper 118), its low 32 bits or, shifted, the high ones
_CALL = bytes.fromhex("8500000076000000")
_SHIFT = bytes.fromhex("7700000020000000")
_EXIT = bytes.fromhex("9500000000000000")
_PACKET = bytes(64)
_RATES = (100, 250, 300, 1000)


class Jiffies:
    """Reads bpf_jiffies64 by running programs of one call."""

    def __init__(self) -> None:
        """Load the programs; `close` unloads them."""
        self._low = libbpf.prog_load(libbpf.PROG_SCHED_CLS, "udpgrm_clock", _CALL + _EXIT)
        self._high = libbpf.prog_load(libbpf.PROG_SCHED_CLS, "udpgrm_clock", _CALL + _SHIFT + _EXIT)

    def now(self) -> int:
        """Return the jiffies since boot, from the kernel's own origin."""
        while True:
            high = libbpf.prog_test_run(self._high, _PACKET)
            low = libbpf.prog_test_run(self._low, _PACKET)
            if high == libbpf.prog_test_run(self._high, _PACKET):
                return high << 32 | low

    def close(self) -> None:
        """Unload the programs."""
        os.close(self._low)
        os.close(self._high)

    def rate(self) -> int:
        """Return CONFIG_HZ, the jiffies per second, measured until two measurements agree."""
        last = 0
        while True:
            jiffies, clock = self.now(), time.monotonic()
            time.sleep(0.04)
            measured = (self.now() - jiffies) / (time.monotonic() - clock)
            rate = min(_RATES, key=lambda rate: abs(rate - measured))
            if rate == last:
                return rate
            last = rate
