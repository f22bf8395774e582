# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The names of services and dissectors: what makes one valid."""

from __future__ import annotations

import re

SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
SERVICE_RULE = "up to 64 lower case letters, digits, _ and -, not beginning with _ or -"
#: A service's name, or a superseded restart's: the service's, @ and a number.
RESTART = re.compile(rf"{SERVICE.pattern}(@[0-9]+)?")
#: The name of a dissector, and of a dissector's parameter.
DISSECTOR = re.compile(r"[a-z][a-z0-9_]{0,30}")
