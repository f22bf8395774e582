# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A computation by one host's worker for all hosts of its task: a run_once without a task of its own.

To read the results of all hosts takes time for each of them; done by every host it would take the square.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import time
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleActionFail

_POLL_S = 0.1


def once(key: str, is_first: bool, compute: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
    """Return the result of C(compute) in the worker of the first host; other workers wait for it. Raises AnsibleActionFail.

    It is passed in Ansible's own temporary directory, which all workers of a process share. The first
    host's worker is started before the others.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    path = pathlib.Path(C.DEFAULT_LOCAL_TMP, f"udpgrm-{digest}.json")
    if is_first and not path.exists():
        _write(path, _attempt(compute))
    parent = os.getppid()
    while not path.exists():
        if os.getppid() != parent:
            raise AnsibleActionFail("ansible-playbook has ended")
        time.sleep(_POLL_S)
    answer: dict[str, t.Any] = json.loads(path.read_text(encoding="utf-8"))
    if "error" in answer:
        raise AnsibleActionFail(answer["error"])
    return answer


def _attempt(compute: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
    try:
        return compute()
    except Exception as error:  # the others wait for an answer, whatever went wrong
        return {"error": f"{type(error).__name__}: {error}"}


def _write(path: pathlib.Path, answer: dict[str, t.Any]) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(answer), encoding="utf-8")
    draft.replace(path)
