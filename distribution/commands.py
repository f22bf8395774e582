# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Write the commands of a package from pyproject.toml's scripts.

    python3 -m distribution.commands DIRECTORY

bin/ runs a checkout; these run the installed module.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from distribution import directory

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
TEXT = """\
#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
from {module} import {function}

{function}()
"""


def scripts() -> dict[str, str]:
    """Return the text of each command by its name."""
    # no tomllib: Python 3.9 and 3.10 have none
    section = PROJECT.read_text().partition("[project.scripts]\n")[2].partition("\n\n")[0]
    found = re.findall(r'^(\w+) = "([\w.]+):(\w+)"$', section, re.MULTILINE)
    return {name: TEXT.format(module=module, function=run) for name, module, run in found}


if __name__ == "__main__":
    sys.exit(directory.main("commands", scripts, mode=0o755))
