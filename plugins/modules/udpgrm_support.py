#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_support
short_description: Collect what a host knows of its services
version_added: 1.0.0
description:
  - Returns status, doctor's findings, metrics, journals of restarts and logs of units, for an archive that helps to find out
    why a restart has failed.
  - Values of the environments of the services' units are replaced by the names of their variables, wherever they occur.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
  - udpgrm.fleet._attributes.info_module
options:
  services:
    description:
      - Names of the services.
    type: list
    elements: str
    required: true
seealso:
  - module: udpgrm.fleet.udpgrm_service_info
"""

EXAMPLES = r"""
- name: Collect what the host knows of a service
  udpgrm.fleet.udpgrm_support:
    services: [dns]
  register: collected
"""

RETURN = r"""
files:
  description: Texts, by names of files.
  type: dict
  returned: success
  sample: {"kernel.txt": "Linux fl1 6.18.0 x86_64"}
"""

import pathlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils import _support
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import HostError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"services": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )

    def run(command: list[str]) -> tuple[int, str, str]:
        try:
            status, out, err = module.run_command(command, handle_exceptions=False)
        except OSError as error:  # a command that is not there
            return 127, "", f"{error.strerror}\n"
        return status, out, err

    def read(path: str) -> str:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")

    try:
        files = _support.collect(run, read, module.params["services"])
    except HostError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, files=files)


if __name__ == "__main__":
    main()
