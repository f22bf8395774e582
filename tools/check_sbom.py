#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Check a software bill of materials against CycloneDX's own schema.

    tools/check_sbom.py FILE

Exits with 1 after a line that says what is wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def main() -> int:
    """Run the command line."""
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(Path(sys.argv[1]).read_text())
    if error is not None:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
