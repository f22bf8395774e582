# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The work of udpgrm_service: install a service's definition, if the host accepts it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import stat
import tempfile
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError, JsonObject

DEFAULT_DIRECTORY = "/etc/udpgrm/services.d"
SUFFIX = ".yaml"
MODE = 0o644
HEADER = "# Written by Ansible, the collection udpgrm.fleet: changes are lost.\n---\n"


def directory() -> pathlib.Path:
    """Return the directory of definitions, by the environment variable of the host's command."""
    return pathlib.Path(os.environ.get("UDPGRM_SERVICES_DIR", DEFAULT_DIRECTORY))


@dataclasses.dataclass
class Change:
    """A file as it is and as it is to be; None: it is not there. C(mode): the file's, as it is."""

    path: pathlib.Path
    before: str | None
    after: str | None
    mode: int = MODE

    @property
    def changed(self) -> bool:
        """Return whether there is something to do."""
        return self.before != self.after or (self.after is not None and self.mode != MODE)

    def diff(self) -> dict[str, str]:
        """Return what Ansible's diff mode shows."""
        before, after = self.before or "", self.after or ""
        if self.after is not None and self.mode != MODE:
            before = f"# mode: {self.mode:04o}\n{before}"
            after = f"# mode: {MODE:04o}\n{after}"
        path = str(self.path)
        return {"before": before, "after": after, "before_header": path, "after_header": path}


def compare(name: str, text: str | None) -> Change:
    """Compare the file of a service with what is wanted of it. Raises HostError if it cannot be read."""
    path = directory() / f"{name}{SUFFIX}"
    mode = MODE
    try:
        before = path.read_text(encoding="utf-8")
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        before = None
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"{path} cannot be read: {error}") from error
    return Change(path, before, text, mode)


def validate(host: Host, change: Change, scratch: str) -> None:
    """Validate the directory as it would be by the host. Raises HostError with every new problem.

    C(scratch) is a directory for temporary files. Problems that other services' files had
    before do not count.
    """
    if change.after is None:
        return
    there = change.path.parent
    known = _problems(host.check_definitions(str(there))) if there.is_dir() else set()
    with tempfile.TemporaryDirectory(dir=scratch) as planned:
        for other in there.glob(f"*{SUFFIX}") if there.is_dir() else ():
            if other.is_file():  # what is none has a problem of its own, before and after
                shutil.copyfile(other, pathlib.Path(planned, other.name))
        pathlib.Path(planned, change.path.name).write_text(change.after, encoding="utf-8")
        found = _problems(host.check_definitions(planned))
    own = {problem for problem in found if problem[0] == change.path.name}
    new = sorted(own | (found - known))
    if new:
        raise HostError(
            "the definition is not valid: "
            + "; ".join(f"{file}: {key + ': ' if key else ''}{reason}" for file, key, reason in new)
        )


def _problems(document: JsonObject) -> set[tuple[str, str, str]]:
    return {
        (pathlib.Path(item["file"]).name, item["key"], item["reason"])
        for item in document["problems"]
    }


def apply(change: Change, move: t.Callable[[str, str], None], scratch: str) -> None:
    """Replace the file in one step, by a function that moves one atomically; or remove it."""
    if change.after is None:
        change.path.unlink()
        return
    if not change.path.parent.is_dir():
        change.path.parent.mkdir(parents=True)
        change.path.parent.chmod(0o755)
    handle, draft = tempfile.mkstemp(dir=scratch)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(change.after)
    pathlib.Path(draft).chmod(MODE)
    move(draft, str(change.path))
    # a file that replaces another one gets its mode
    change.path.chmod(MODE)
