#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_host_info
short_description: Inspect a host before udpgrm is installed
version_added: 1.0.0
description:
  - Reads in one round trip which parts of an installation a host has. For the role C(udpgrm.fleet.udpgrm), which passes over the
    tasks that have nothing to do.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
  - udpgrm.fleet._attributes.info_module
options:
  packages:
    description:
      - Names of packages of the distribution.
    type: list
    elements: str
    default: []
  links:
    description:
      - Paths of symbolic links.
    type: list
    elements: path
    default: []
  units:
    description:
      - Names of systemd units.
    type: list
    elements: str
    default: []
  tree:
    description:
      - A directory of root's that all users may read.
    type: path
    required: true
  metrics_unit:
    description:
      - Path of the unit that writes metrics.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Inspect the host
  udpgrm.fleet.udpgrm_host_info:
    packages: [libbpf1]
    links: [/usr/bin/udpgrm]
    units: [udpgrm.service]
    tree: /usr/lib/udpgrm
    metrics_unit: /etc/systemd/system/udpgrm-textfile.service
  register: host_found
"""

RETURN = r"""
bpffs:
  description: Whether the BPF file system is mounted at its place.
  type: bool
  returned: success
  sample: true
packages:
  description: Those of O(packages) that are installed.
  type: list
  elements: str
  returned: success
  sample: [libbpf1]
links:
  description: What those of O(links) that are there point to, by path.
  type: dict
  returned: success
  sample: {"/usr/bin/udpgrm": "/usr/lib/udpgrm/current/bin/udpgrm"}
units:
  description: Those of O(units) that start with the host, and of them those that are active.
  type: dict
  returned: success
  sample: {"enabled": ["udpgrm.service"], "active": ["udpgrm.service"]}
readable:
  description: Whether all below O(tree) is root's, readable by all users and writable by none of them.
  type: bool
  returned: success
  sample: true
metrics_directory:
  description: The directory that O(metrics_unit) writes to, V(null) if there is no such unit.
  type: str
  returned: success
  sample: /var/lib/prometheus/node-exporter
"""

import os
import pathlib
import stat
import typing as t

from ansible.module_utils.basic import AnsibleModule

BPFFS = ["/sys/fs/bpf", "bpf"]
_INSTALLED = "installed "


def has_bpffs(mounts: str) -> bool:
    """Return whether the BPF file system is in the kernel's list of mounts."""
    return any(line.split()[1:3] == BPFFS for line in mounts.splitlines())


def installed(module: AnsibleModule, names: list[str]) -> list[str]:
    """Return the packages that are installed, whatever the distribution's package manager."""
    query = module.get_bin_path("dpkg-query")
    if query is not None:
        command = [query, "--show", "--showformat=${db:Status-Status} ${Package}\\n"]
    else:
        query = module.get_bin_path("rpm", required=True)
        command = [query, "--query", "--queryformat", f"{_INSTALLED}%{{NAME}}\\n"]
    # fails if one of the packages is not installed
    _status, out, _err = module.run_command([*command, "--", *names])
    there = {
        line.removeprefix(_INSTALLED) for line in out.splitlines() if line.startswith(_INSTALLED)
    }
    return [name for name in names if name in there]


def states(module: AnsibleModule, names: list[str]) -> dict[str, list[str]]:
    """Return the units that are enabled, and those that are active."""
    command = ["systemctl", "show", "--property=UnitFileState,ActiveState", "--", *names]
    _status, out, _err = module.run_command(command)
    parts = [part.splitlines() for part in out.split("\n\n")]
    return {
        word: [name for name, lines in zip(names, parts) if f"{key}={word}" in lines]
        for key, word in (("UnitFileState", "enabled"), ("ActiveState", "active"))
    }


def is_readable(path: pathlib.Path) -> bool:
    """Return whether a file is root's, and has the mode that the role gives it."""
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode)
    expected = 0o755 if stat.S_ISDIR(found.st_mode) or mode & 0o111 else 0o644
    owned = (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
    return owned and (stat.S_ISLNK(found.st_mode) or mode == expected)


def all_readable(tree: pathlib.Path) -> bool:
    """Return whether that holds for a directory and all below it; not, if it does not exist."""
    return tree.is_dir() and all(map(is_readable, [tree, *tree.rglob("*")]))


def metrics_directory(unit: pathlib.Path) -> t.Optional[str]:
    """Return the directory that a unit may write to; None: there is no such unit."""
    try:
        lines = unit.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    key = "ReadWritePaths="
    return next((line.removeprefix(key) for line in lines if line.startswith(key)), "")


def main() -> None:
    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "packages": names,
            "links": {**names, "elements": "path"},
            "units": names,
            "tree": {"type": "path", "required": True},
            "metrics_unit": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    links = [pathlib.Path(path) for path in params["links"]]
    mounts = pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    module.exit_json(
        changed=False,
        bpffs=has_bpffs(mounts),
        packages=installed(module, params["packages"]) if params["packages"] else [],
        links={str(path): str(path.readlink()) for path in links if path.is_symlink()},
        units=states(module, params["units"]) if params["units"] else {"enabled": [], "active": []},
        readable=all_readable(pathlib.Path(params["tree"])),
        metrics_directory=metrics_directory(pathlib.Path(params["metrics_unit"])),
    )


if __name__ == "__main__":
    main()
