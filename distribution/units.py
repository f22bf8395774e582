# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Write the units and the configuration file of a package from the role's templates.

    python3 -m distribution.units DIRECTORY

The role and the packages have the same units, so there is one text of each. Values are those of the
role's defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jinja2
import yaml

from distribution import directory

HERE = Path(__file__).resolve().parent
ROLE = HERE.parent / "roles" / "udpgrm"
UNITS = ("udpgrm.slice", "udpgrm.service", "udpgrm-resume.service", "udpgrm-first@.service")
#: An example: without the file these values hold.
CONFIGURATION = "udpgrm.conf"
MANAGED = "From udpgrm's package. Change it with `systemctl edit`: upgrades replace this file."
MANAGED_CONFIGURATION = "Copy this file to /etc/udpgrm to change a limit. These are the defaults."


def rendered() -> dict[str, str]:
    """Return each file by its name."""
    # as Ansible's template lookup renders
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    defaults: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    texts = {}
    for name in (*UNITS, CONFIGURATION):
        managed = MANAGED_CONFIGURATION if name == CONFIGURATION else MANAGED
        template = environment.get_template(f"{name}.j2")
        texts[name] = template.render(**defaults, ansible_managed=managed).strip() + "\n"
    return texts


if __name__ == "__main__":
    sys.exit(directory.main("units", rendered))
