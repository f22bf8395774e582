# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Commands of a unit that may harm another instance, which serves while they run."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Optional

from udpgrm.services import init_script

#: Directives whose commands run while another instance serves.
EXAMINED = ("ExecStartPre", "ExecStart", "ExecStartPost", "ExecStop", "ExecStopPost")
_REMOVES = re.compile(r"""(?:^[-@:+!|]*|[\s/;&|'"])(?:rm|rmdir|unlink)\s+([^;&|]*)""")
_PATH = re.compile(r"""(?:^|\s)['"]?(/[^\s'"]*)""")
#: What all instances need of the host: rules of its packet filter, addresses, routes, devices.
_NETWORK = re.compile(
    r"\b(?:ip6?tables(?:-\w+)?\s(?:.*\s)?(?:-[FXD]|--flush|--delete)\b"
    r"|nft\s+(?:flush|delete)\b|ipset\s+(?:flush|destroy)\b"
    r"|ip\s+(?:-\S+\s+)*(?:link|tuntap|route|rule|addr|address)\s+(?:del|delete|flush)\b)[^;&|'\"]*"
)
_ROOTS = {"%t": "/run", "%S": "/var/lib", "%C": "/var/cache"}


def harm(key: str, command: str, directories: Collection[str]) -> Optional[str]:
    """Return how a command of a directive may harm another instance; None: nothing is seen.

    directories: those that are the instance's own.
    """
    if key == "ExecStop" and not any(
        word in command for word in ("$MAINPID", "${MAINPID}", *directories)
    ):  # as one that asks at a port of the host
        return "names neither $MAINPID nor a directory of the instance, so it may stop another one"
    ends = init_script.broad_stop(command)
    if ends is not None:
        return f"ends processes by name ({ends}), so it may stop another instance"
    for removed in _REMOVES.finditer(command):
        for path in _PATH.findall(_expanded(removed[1])):
            if not any(f"{path}/".startswith(f"{own}/") for own in directories):
                return f"removes {path}, which another instance may need"
    network = _NETWORK.search(command)
    if network is not None:
        return f"changes the host's network ({network[0].strip()}), which another instance needs"
    return None


def _expanded(text: str) -> str:
    """Return a text with the specifiers of directories written out."""
    for specifier, root in _ROOTS.items():
        text = text.replace(specifier, root)
    return text
