# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Examples of the documentation, for tests that run them."""

from __future__ import annotations

import re

from testing.processes import ROOT


def blocks(page: str) -> dict[str, str]:
    """Return the YAML examples of a page by the file that their first line names."""
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(r"```yaml\n(# ([^\n]+)\n.*?)```", text, re.DOTALL)
    return {name: block for block, name in found}
