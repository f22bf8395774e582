# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Paths of the control node: those of the collection's own files, and those that an operator gives."""

from __future__ import annotations

import pathlib
import typing as t

PLAYBOOKS = pathlib.Path(__file__).resolve().parents[2] / "playbooks"
TEMPLATES = PLAYBOOKS / "templates"


def given(value: t.Any) -> pathlib.Path:
    """Return a path as an operator gives it: from the directory that Ansible was started in."""
    return pathlib.Path.cwd() / pathlib.Path(str(value)).expanduser()
