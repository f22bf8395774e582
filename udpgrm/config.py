# SPDX-License-Identifier: Apache-2.0
"""The configuration file: INI with one section, [limits]."""

from __future__ import annotations

import configparser
from pathlib import Path

from udpgrm.numbers import number_of
from udpgrm.state.layout import MAX_TABLES, Limits

DEFAULT_FILE = "/etc/udpgrm/udpgrm.conf"
#: Key of the file -> field of Limits, lowest and highest value.
_KEYS = {
    "groups": ("groups", 1, 65536),
    "flows_per_generation": ("flows", 64, 1 << 24),
    "prepared_groups": ("prepared_groups", 1, 1024),
    "prepared_tables": ("prepared_tables", 1, MAX_TABLES // 4),
    "groups_per_user": ("groups_per_user", 1, 65536),
    "tables_per_user": ("tables_per_user", 1, MAX_TABLES),
}


class ConfigError(Exception):
    """Raised when the file cannot be used; the message names file, key and reason."""


def load(path: str, required: bool) -> Limits:
    """Read the limits. Without a file that is optional: the defaults."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(path).read_text(encoding="utf-8"), path)
    except FileNotFoundError as error:
        if not required:
            return Limits()
        raise ConfigError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    sections = parser.sections() + ([parser.default_section] if parser.defaults() else [])
    unknown = [name for name in sections if name != "limits"]
    if unknown:
        raise ConfigError(f"{path}: unknown section {unknown[0]!r}, there is only [limits]")
    values: dict[str, int] = {}
    for key, text in parser.items("limits") if parser.has_section("limits") else ():
        if key not in _KEYS:
            raise ConfigError(f"{path}: limits.{key}: no such key")
        field, low, high = _KEYS[key]
        try:
            values[field] = number_of(f"limits.{key}", text, low, high)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
    defaults = Limits()
    groups = values.get("groups", defaults.groups)
    prepared = values.setdefault("prepared_groups", min(defaults.prepared_groups, groups))
    if prepared > groups:
        raise ConfigError(
            f"{path}: limits.prepared_groups: {prepared} is more than limits.groups, {groups}"
        )
    return Limits(**values)
