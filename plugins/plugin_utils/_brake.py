# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The brake of a rollout: a file of the control node that pauses or stops it from outside."""

from __future__ import annotations

import pathlib

from ansible_collections.udpgrm.fleet.plugins.plugin_utils._conditions import GO, Answer


def read(path: str) -> Answer:
    """Return what the brake says. Whatever is no clear word pauses the run: it may be an order in the making."""
    try:
        word = pathlib.Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return GO
    except OSError as error:
        return Answer(wait=f"{path} cannot be read: {error.strerror}")
    if word == "stop":
        return Answer(stop=f"{path} says stop")
    if word in ("", "pause"):
        return Answer(wait=f"{path} says pause; delete it to continue")
    return Answer(wait=f"{path} says neither pause nor stop; delete it to continue")
