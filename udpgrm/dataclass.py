# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The decorator of dataclasses, for what this package uses of it.

Commands are processes that answer and end. dataclasses imports inspect, and compiles six functions
for each class: a third of the time of such a command. Here all classes share their functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass, field, fields, replace
else:
    _MISSING = object()

    class _Field:
        """A field: its name, its type as it is written, and its default."""

        def __init__(self, default: Any, default_factory: Any, init: bool, hash: bool) -> None:
            self.name = self.type = ""
            self.default = default
            self.default_factory = default_factory
            self.init = init
            self.hash = hash

        def initial(self) -> Any:
            """Return the default, else _MISSING."""
            return self.default if self.default_factory is None else self.default_factory()

    def field(*, default_factory: Any = None, init: bool = True, hash: bool = True) -> Any:
        """Return the description of a field, to be assigned in the class."""
        return _Field(_MISSING, default_factory, init, hash)

    def fields(kind: Any) -> tuple[_Field, ...]:
        """Return the fields of a dataclass or of an instance."""
        return tuple(kind.__fields__.values())

    def replace(instance: Any, /, **changes: Any) -> Any:
        """Return a copy with other values."""
        values = {item.name: vars(instance)[item.name] for item in fields(instance) if item.init}
        return type(instance)(**{**values, **changes})

    def dataclass(kind: Any = None, *, frozen: bool = False) -> Any:
        """Give a class the functions of a dataclass."""
        if kind is None:
            return lambda decorated: dataclass(decorated, frozen=frozen)
        found = dict(getattr(kind, "__fields__", {}))
        for name, declared in vars(kind).get("__annotations__", {}).items():
            if not declared.startswith("ClassVar"):
                found[name] = _declared(kind, name, declared)
        kind.__fields__ = found
        kind.__match_args__ = tuple(name for name, item in found.items() if item.init)
        kind.__init__, kind.__repr__, kind.__eq__ = _init, _repr, _eq
        kind.__hash__ = _hash if frozen else None
        if frozen:
            kind.__setattr__, kind.__delattr__ = _set, _delete
        return kind

    def _declared(kind: Any, name: str, declared: str) -> _Field:
        item = kind.__dict__.get(name, _MISSING)
        if not isinstance(item, _Field):
            item = _Field(item, None, True, True)
        else:
            delattr(kind, name)
        item.name, item.type = name, declared
        return item

    def _init(self: Any, /, *args: Any, **kwargs: Any) -> None:
        values = self.__dict__
        names = self.__match_args__
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, not {len(args)}")
        values.update(zip(names, args))
        for name, value in kwargs.items():
            if name in values or name not in names:
                reason = "given twice" if name in values else "no field"
                raise TypeError(f"{type(self).__name__}: {name} is {reason}")
            values[name] = value
        for name, item in self.__fields__.items():
            if name in values or not item.init:
                continue
            value = item.initial()
            if value is _MISSING:
                raise TypeError(f"{type(self).__name__}: {name} is missing")
            values[name] = value
        finish = getattr(self, "__post_init__", None)
        if finish is not None:
            finish()

    def _repr(self: Any) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__fields__)
        return f"{type(self).__qualname__}({shown})"

    def _values(self: Any) -> tuple[Any, ...]:
        return tuple(self.__dict__[name] for name in self.__fields__)

    def _eq(self: Any, other: object) -> Any:
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def _hash(self: Any) -> int:
        return hash(
            tuple(self.__dict__[name] for name, item in self.__fields__.items() if item.hash)
        )

    def _set(self: Any, name: str, _: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot assign {name}")

    def _delete(self: Any, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name}")


__all__ = ["dataclass", "field", "fields", "replace"]
