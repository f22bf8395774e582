# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The parser of sizes of batches, as they are given with -e."""

from __future__ import annotations

import re
import typing as t

import yaml
from ansible.errors import AnsibleFilterError

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_SHARE = re.compile(r"([1-9][0-9]?|100)%")


def parse(given: t.Any) -> list[int | str]:
    """Return the value of Ansible's C(serial): numbers and shares of hosts. Raises AnsibleFilterError.

    C(-e name=[1,2]) is a string for Ansible, and C(serial: 0) all hosts at once.
    """
    try:
        # without types: 010 and 1:30 are no numbers of hosts
        found = yaml.load(given, yaml.BaseLoader) if isinstance(given, str) else given
    except yaml.YAMLError:
        found = given
    sizes = found if isinstance(found, list) else [found]
    texts = [size if isinstance(size, str) else repr(size) for size in sizes]
    if not texts or not all(_NUMBER.fullmatch(text) or _SHARE.fullmatch(text) for text in texts):
        raise AnsibleFilterError(
            f"not sizes of batches: {given!r}; they are a number of hosts, a share as 25%, or a list of such"
        )
    return [text if text.endswith("%") else int(text) for text in texts]
