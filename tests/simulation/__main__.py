# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The long form: many schedules on all processors, and what they did.

python3 -m tests.simulation [SCHEDULES [SEED]]
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

from tests.simulation.explore import Summary, explore

#: Schedules of one task, after which the parent reports.
_TASK = 1000
_SHOWN = 10


def _run(task: tuple[int, int, int, int]) -> Summary:
    return explore(*task)


def main() -> int:
    """Run the command line; return 1 if an invariant was violated."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    jobs = max(1, count // _TASK)
    total, begin = Summary(), time.monotonic()
    tasks = [(count // jobs, seed, job, jobs) for job in range(jobs)]
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for done in pool.imap_unordered(_run, tasks):
            for schedule, violations in done.failures[: max(0, _SHOWN - len(total.failures))]:
                print(f"\n{schedule!r}\n  " + "\n  ".join(violations), flush=True)
            total.merge(done)
            if total.schedules % (_TASK * 10) == 0:
                print(f"{total.schedules} schedules, {len(total.failures)} failed", flush=True)
    took = time.monotonic() - begin
    faults = ", ".join(f"{number}: {times}" for number, times in sorted(total.by_faults.items()))
    ends = ", ".join(f"{name}: {times}" for name, times in total.outcomes.most_common())
    print(f"{total.schedules} schedules in {took:.0f} s (seed {seed})")
    print(f"one fault before each call: {total.singles} of {total.all_singles} schedules")
    print(f"faults that came in one schedule: {faults}")
    print(f"(step, fault) that came: {len(total.pairs)}; one after another: {len(total.couples)}")
    print(f"outcomes of the restart: {ends}")
    print(f"{len(total.failures)} schedules violated an invariant")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
