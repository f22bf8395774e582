# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A service's file, with changes."""

from __future__ import annotations

import yaml

MINIMAL = {"groups": [{"address": "0.0.0.0:4433"}], "instances": {"unit": "edge@.service"}}


def text(**changes: object) -> bytes:
    content = {key: value for key, value in {**MINIMAL, **changes}.items() if value is not None}
    return yaml.safe_dump(content).encode()


def one_group(**changes: object) -> bytes:
    return text(groups=[{"address": "0.0.0.0:4433", **changes}])
