# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The support bundle has what failed hosts have given, each in a directory of its own."""

from __future__ import annotations

import pathlib
import tarfile

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _bundle

RUN = "control:1:2:a"


@pytest.fixture
def path(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path / "bundle.tar.gz"


def test_the_archive(path: pathlib.Path) -> None:
    _bundle.keep(RUN, "fl1", {"files": {"log.txt": "line\n", "../../etc/x": "no"}})
    _bundle.keep(RUN, "fl2", {"unreachable": True, "msg": "no route"})
    _bundle.keep("another", "fl3", {"files": {"log.txt": "no"}})
    line, problem = _bundle.write(str(path), RUN, {"state": "failed"})
    assert (line, problem) == (f"support bundle: {path}", "")
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        texts = {
            item.name.removeprefix("udpgrm-support/"): archive.extractfile(item).read().decode()  # type: ignore[union-attr]
            for item in archive
        }
    assert texts == {
        "udpgrm-report.json": '{\n "state": "failed"\n}',
        "fl1/log.txt": "line\n",
        "fl1/_.._etc_x": "no",
        "fl2/failed.txt": "no route\n",
    }


def test_no_archive_unless_something_has_failed(path: pathlib.Path) -> None:
    assert _bundle.write(str(path), RUN, {}) == ("", "")
    assert not path.exists()


def test_an_archive_that_cannot_be_written(path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"udpgrm_support_bundle: .* cannot be written"):
        _bundle.check("/nonexistent/bundle.tar.gz")
    with pytest.raises(ValueError, match="it is a directory"):
        _bundle.check(str(path.parent))
    _bundle.keep(RUN, "fl1", {"files": {}})
    assert "cannot be written" in _bundle.write("/nonexistent/b.tar.gz", RUN, {})[1]
