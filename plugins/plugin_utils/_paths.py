# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Paths of the control node: those of the collection's own files, and those that an operator gives."""

from __future__ import annotations

import pathlib
import typing as t

from ansible.module_utils.parsing.convert_bool import BOOLEANS_FALSE, BOOLEANS_TRUE

PLAYBOOKS = pathlib.Path(__file__).resolve().parents[2] / "playbooks"
TEMPLATES = PLAYBOOKS / "templates"
_NONE = {"", "none", *(str(word).lower() for word in BOOLEANS_FALSE)}
_TRUE = {str(word).lower() for word in BOOLEANS_TRUE}


def given(value: t.Any) -> pathlib.Path:
    """Return a path as an operator gives it: from the directory that Ansible was started in."""
    return pathlib.Path.cwd() / pathlib.Path(str(value)).expanduser()


def optional(value: t.Any, default: str = "") -> str:
    """Return the path of a file, empty if there is none; C(-e) makes strings of booleans. Raises ValueError.

    C(default): the file that true means; without it, true is no path.
    """
    word = str(value).strip().lower()
    if word in _NONE:
        return ""
    if word in _TRUE and default:
        return str(given(default))
    if word in _TRUE or not isinstance(value, str):
        raise ValueError("it is the path of a file")
    return str(given(value))
