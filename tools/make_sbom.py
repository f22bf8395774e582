#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Print the software bill of materials of a release: CycloneDX 1.5 as JSON.

    tools/make_sbom.py ARTIFACT...

Components are the artifacts, with their digests, and the packages of the distribution that udpgrm
needs on a host or may use there, from distribution/debian/control. The same artifacts give the same
text: the time is that of SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONTROL = ROOT / "distribution/debian/control"
#: CycloneDX's names of Debian's fields.
SCOPES = {"Depends": "required", "Recommends": "optional", "Suggests": "optional"}
#: Licences of what is not Apache-2.0 alone.
LICENCES = "Apache-2.0 AND GPL-2.0-or-later"
COLLECTION_LICENCES = f"{LICENCES} AND GPL-3.0-or-later"


def version() -> str:
    """Return udpgrm's version."""
    found = re.search(r'"(.+)"', (ROOT / "udpgrm/version.py").read_text().partition("=")[2])
    assert found is not None
    return found[1]


def dependencies(control: str) -> list[tuple[str, str]]:
    """Return names and scopes of the packages in a Debian control file's binary package."""
    found = []
    package = control.partition("\nPackage: ")[2]
    for field, scope in SCOPES.items():
        text = re.search(rf"^{field}:((?:\n? .*)+)", package, re.MULTILINE)
        for item in (text[1] if text else "").split(","):
            name = item.strip().partition(" ")[0]
            if name and not name.startswith("$"):
                found.append((name, scope))
    return found


def artifact(path: Path) -> dict[str, Any]:
    """Return the component of an artifact."""
    is_whole = path.name.endswith(".tar.gz")
    return {
        "type": "file",
        "bom-ref": path.name,
        "name": path.name,
        "version": version(),
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}],
        "licenses": [{"expression": COLLECTION_LICENCES if is_whole else LICENCES}],
    }


def bill(paths: Sequence[Path], seconds: int) -> dict[str, Any]:
    """Return the whole document."""
    artifacts = [artifact(path) for path in sorted(paths)]
    packages = dependencies(CONTROL.read_text())
    content = hashlib.sha256(json.dumps(artifacts).encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=content[:16], version=4)}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
            "component": {
                "type": "application",
                "bom-ref": "udpgrm",
                "name": "udpgrm",
                "version": version(),
                "licenses": [{"expression": COLLECTION_LICENCES}],
            },
        },
        "components": [
            *artifacts,
            *(
                {
                    "type": "library",
                    "bom-ref": name,
                    "name": name,
                    "scope": scope,
                    "purl": f"pkg:deb/debian/{name}",
                }
                for name, scope in packages
            ),
        ],
        "dependencies": [
            {"ref": "udpgrm", "dependsOn": [name for name, _ in packages]},
            *({"ref": name} for name, _ in packages),
        ],
    }


def main() -> int:
    """Run the command line."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    print(json.dumps(bill([Path(name) for name in sys.argv[1:]], seconds), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
