# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A computation by one host's worker for all hosts of its task: a run_once without a task of its own.

To read the results of all hosts takes time for each of them; done by every host it would take the square.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pathlib
import time
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleActionFail

_POLL_S = 0.1


def once(key: str, compute: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
    """Return the result of C(compute) in the worker that comes first; other workers wait for it. Raises AnsibleActionFail.

    It is passed in Ansible's own temporary directory, which all workers of a process share. No host is
    named to be the first: a failed hook may have taken it out of the task.
    """
    path = _path(key)
    with path.with_suffix(".lock").open("w", encoding="utf-8") as lock:
        parent = os.getppid()
        while not path.exists():
            if os.getppid() != parent:
                raise AnsibleActionFail("ansible-playbook has ended")
            if _is_locked_by_us(lock):
                if not path.exists():
                    _write(path, _attempt(compute))
                break
            time.sleep(_POLL_S)
    answer: dict[str, t.Any] = json.loads(path.read_text(encoding="utf-8"))
    if "error" in answer:
        raise AnsibleActionFail(answer["error"])
    return answer


class Turn:
    """A lock among the workers: the first that asks holds it until it closes this."""

    def __init__(self, key: str) -> None:
        self._lock = _path(key).with_suffix(".turn").open("w", encoding="utf-8")

    def is_ours(self) -> bool:
        """Return whether this worker has it, now or already."""
        return _is_locked_by_us(self._lock)

    def close(self) -> None:
        """Leave it to the next."""
        self._lock.close()


def _path(key: str) -> pathlib.Path:
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return pathlib.Path(C.DEFAULT_LOCAL_TMP, f"udpgrm-{digest}.json")


def _is_locked_by_us(lock: t.IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _attempt(compute: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
    try:
        return compute()
    except Exception as error:  # the others wait for an answer, whatever went wrong
        return {"error": f"{type(error).__name__}: {error}"}


def _write(path: pathlib.Path, answer: dict[str, t.Any]) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(answer), encoding="utf-8")
    draft.replace(path)
