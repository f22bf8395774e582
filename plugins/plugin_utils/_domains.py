# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Batches of hosts in domains, such as racks or zones: no more than some domains at once."""

from __future__ import annotations

import typing as t


def batches(
    sizes: t.Sequence[int | str], canaries: int, domains: t.Mapping[str, str], most: int
) -> tuple[list[str], list[int]]:
    """Return hosts, the canaries first and each domain's together, and sizes of batches of at most C(most) domains.

    C(domains) are the hosts in their order, canaries first. The sizes mean what they mean in Ansible.
    """
    hosts = [*domains]
    parts = [_together(part, domains) for part in (hosts[:canaries], hosts[canaries:]) if part]
    ordered = [host for part in parts for host in part]
    found: list[int] = []
    begin, nominal = 0, _nominal(sizes, len(hosts))
    while begin < len(ordered):
        wanted = nominal[min(len(found), len(nominal) - 1)]
        if begin < canaries:
            wanted = min(wanted, canaries - begin)
        batch = ordered[begin : begin + wanted]
        while len({domains[host] for host in batch}) > most:
            batch.pop()
        found.append(len(batch))
        begin += len(batch)
    return ordered, found


def _together(hosts: t.Sequence[str], domains: t.Mapping[str, str]) -> list[str]:
    order = list(dict.fromkeys(domains[host] for host in hosts))
    return sorted(hosts, key=lambda host: order.index(domains[host]))


def _nominal(sizes: t.Sequence[int | str], hosts: int) -> list[int]:
    return [
        size if isinstance(size, int) else max(1, int(hosts * int(size.rstrip("%")) / 100))
        for size in sizes
    ]
