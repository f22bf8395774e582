# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The support bundle: an archive of what the failed hosts of a rollout know, and of its result."""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import tarfile
import tempfile
import time
import typing as t

from ansible import constants as C
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject

NAME = "udpgrm-support.tar.gz"
_ROOT = "udpgrm-support"


def check(path: str) -> None:
    """Raise ValueError if the archive cannot be written."""
    if not path:
        return
    try:
        if pathlib.Path(path).is_dir():
            raise OSError(0, "it is a directory")
        with tempfile.TemporaryFile(dir=pathlib.Path(path).parent):
            pass
    except OSError as error:
        raise ValueError(
            f"udpgrm_support_bundle: {path} cannot be written: {error.strerror}"
        ) from error


def _directory(run: str) -> pathlib.Path:
    """Return where the workers of a run leave their texts: in Ansible's own temporary directory."""
    digest = hashlib.sha256(run.encode()).hexdigest()[:32]
    return pathlib.Path(C.DEFAULT_LOCAL_TMP, f"udpgrm-support-{digest}")


def keep(run: str, host: str, result: JsonObject) -> None:
    """Keep the texts of a host, or why it has given none, until the archive is written."""
    texts = result.get("files") or {"failed.txt": f"{result.get('msg') or 'no answer'}\n"}
    directory = _directory(run)
    directory.mkdir(mode=0o700, exist_ok=True)
    draft = directory / hashlib.sha256(host.encode()).hexdigest()
    draft.write_text(json.dumps({"host": host, "files": texts}), encoding="utf-8")


def write(path: str, run: str, document: JsonObject) -> tuple[str, str]:
    """Write the archive if hosts have failed; return what to display, and why it could not be written."""
    kept = sorted(_directory(run).glob("*"))
    if not path or not kept:
        return "", ""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        _add(archive, "udpgrm-report.json", json.dumps(document, indent=1))
        for item in kept:
            found = json.loads(item.read_text(encoding="utf-8"))
            for name, text in sorted(found["files"].items()):
                # a host chooses neither directories nor names outside of its own
                _add(archive, f"{_plain(found['host'])}/{_plain(name)}", text)
    try:
        # for this user only: logs may have secrets that the unit's environment has not
        target = pathlib.Path(path)
        target.unlink(missing_ok=True)
        target.touch(mode=0o600, exist_ok=False)
        target.write_bytes(buffer.getvalue())
    except OSError as error:
        return "", f"{path} cannot be written: {error.strerror}"
    return f"support bundle: {path}", ""


def _plain(name: t.Any) -> str:
    return str(name).replace("/", "_").lstrip(".") or "_"


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = str(text).encode(errors="replace")
    info = tarfile.TarInfo(f"{_ROOT}/{name}")
    info.size, info.mtime, info.mode = len(content), int(time.time()), 0o600
    archive.addfile(info, io.BytesIO(content))
