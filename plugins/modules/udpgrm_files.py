#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_files
short_description: Write several files of root's at once
version_added: 1.0.0
description:
  - Makes directories, and writes files, in one round trip. For the role C(udpgrm.fleet.udpgrm), whose templates the control
    node renders.
  - Sets owner and mode of each, whatever the host's umask, and repairs them.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  directories:
    description:
      - Paths of directories, with mode 0755. Those above are there.
    type: list
    elements: path
    default: []
  files:
    description:
      - The files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file.
        type: path
        required: true
      content:
        description: What it contains.
        type: str
        required: true
  mode:
    description:
      - Mode of the files.
    type: str
    choices:
      - "0644"
      - "0600"
    default: "0644"
"""

EXAMPLES = r"""
- name: Write units
  udpgrm.fleet.udpgrm_files:
    files:
      - path: /etc/systemd/system/dns@.service
        content: |
          [Service]
          ExecStart=/usr/local/bin/my-dns --generation %i
"""

RETURN = r"""
paths:
  description: Directories and files that were changed, or would be.
  type: list
  elements: str
  returned: success
  sample: [/etc/systemd/system/dns@.service]
"""

import os
import pathlib
import stat
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

DIRECTORY_MODE = 0o755


def attributes(path: pathlib.Path) -> tuple[int, int, int] | None:
    """Return mode, owner and group; None: the file does not exist."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def described(text: str, found: tuple[int, int, int] | None) -> str:
    """Return diff mode's description of a file or directory."""
    return "" if found is None else "# mode {:04o}, owner {}:{}\n".format(*found) + text


def make_directory(module: AnsibleModule, path: pathlib.Path) -> dict[str, str] | None:
    """Make a directory, and return what changes; None: nothing."""
    before, after = attributes(path), (DIRECTORY_MODE, os.geteuid(), os.getegid())
    if before == after:
        return None
    if not module.check_mode:
        path.mkdir(exist_ok=True)
        os.chown(path, after[1], after[2])
        path.chmod(DIRECTORY_MODE)
    return difference(path, described("", before), described("", after))


def write_file(
    module: AnsibleModule, path: pathlib.Path, text: str, mode: int
) -> dict[str, str] | None:
    """Replace a file in one step, and return what changes; None: nothing."""
    before, after = attributes(path), (mode, os.geteuid(), os.getegid())
    old = "" if before is None else path.read_text(encoding="utf-8", errors="replace")
    if before == after and old == text:
        return None
    if not module.check_mode:
        replace(module, path, text, after)
    return difference(path, described(old, before), described(text, after))


def replace(
    module: AnsibleModule, path: pathlib.Path, text: str, wanted: tuple[int, int, int]
) -> None:
    """Replace a file. It has its mode and owner before its name: what it contains may be secret."""
    mode, owner, group = wanted
    known = path.exists()
    context = (module.selinux_context if known else module.selinux_default_context)(str(path))
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchown(handle, owner, group)
            os.fchmod(handle, mode)
        pathlib.Path(draft).replace(path)
    except OSError:
        pathlib.Path(draft).unlink()
        raise
    module.set_context_if_different(str(path), context, False)


def difference(path: pathlib.Path, before: str, after: str) -> dict[str, str]:
    """Return a part of diff mode's output."""
    name = str(path)
    return {"before": before, "after": after, "before_header": name, "after_header": name}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "path", "default": []},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                },
            },
            "mode": {"type": "str", "choices": ["0644", "0600"], "default": "0644"},
        },
        supports_check_mode=True,
    )
    params = module.params
    parts: list[dict[str, t.Any] | None] = []
    path = ""
    try:
        for path in params["directories"]:
            parts.append(make_directory(module, pathlib.Path(path)))
        for item in params["files"]:
            path = item["path"]
            mode = int(params["mode"], 8)
            parts.append(write_file(module, pathlib.Path(path), item["content"], mode))
    except OSError as error:
        module.fail_json(msg=f"{path}: {error.strerror}")
    changes = [part for part in parts if part is not None]
    paths = [part["after_header"] for part in changes]
    module.exit_json(changed=bool(changes), paths=paths, diff=changes)


if __name__ == "__main__":
    main()
