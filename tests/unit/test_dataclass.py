# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The package's decorator makes of a class what that of dataclasses makes of it."""

from __future__ import annotations

import copy
import dataclasses
from types import ModuleType
from typing import Any, ClassVar

import pytest

from udpgrm import dataclass as ours


def classes(module: ModuleType) -> tuple[Any, Any, Any]:
    """Return a frozen class, one that inherits from it, and one that is not frozen."""

    @module.dataclass(frozen=True)
    class Base:
        """A base."""

        kind: ClassVar[str] = "base"
        number: int
        text: str = "a"

    @module.dataclass(frozen=True)
    class Derived(Base):
        """A class with a field more, and with another default."""

        kind: ClassVar[str] = "derived"
        text: str = "b"
        more: dict[str, int] = module.field(default_factory=dict, hash=False)
        total: int = module.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.number + len(self.more))

    @module.dataclass
    class Open:
        """A class whose values change."""

        items: list[int] = module.field(default_factory=list)

    return Base, Derived, Open


@pytest.fixture(params=[dataclasses, ours], ids=["dataclasses", "ours"])
def made(request: pytest.FixtureRequest) -> tuple[ModuleType, Any, Any, Any]:
    return (request.param, *classes(request.param))


def test_values(made: tuple[ModuleType, Any, Any, Any]) -> None:
    _, base, derived, opened = made
    assert vars(base(1)) == {"number": 1, "text": "a"}
    assert vars(derived(1, more={"x": 1})) == {
        "number": 1,
        "text": "b",
        "more": {"x": 1},
        "total": 2,
    }
    assert (base.kind, derived.kind) == ("base", "derived")
    assert opened().items is not opened().items


def test_fields_and_replace(made: tuple[ModuleType, Any, Any, Any]) -> None:
    module, _, derived, _ = made
    assert [(item.name, item.type) for item in module.fields(derived)] == [
        ("number", "int"),
        ("text", "str"),
        ("more", "dict[str, int]"),
        ("total", "int"),
    ]
    assert module.fields(derived(1))[1].default == "b"
    other = module.replace(derived(1, "c"), number=5)
    assert (other.number, other.text, other.total) == (5, "c", 5)


def test_equality_and_hash(made: tuple[ModuleType, Any, Any, Any]) -> None:
    _, base, derived, opened = made
    assert base(1) == base(1, "a") != base(2)
    assert base(1, "b") != derived(1)
    assert hash(derived(1)) == hash(derived(1, "b"))
    assert opened([1]) == opened([1])
    with pytest.raises(TypeError):
        hash(opened())
    assert copy.deepcopy(derived(1)) == derived(1)


def test_text(made: tuple[ModuleType, Any, Any, Any]) -> None:
    _, base, _, _ = made
    assert repr(base(1)) == "classes.<locals>.Base(number=1, text='a')"


def test_frozen(made: tuple[ModuleType, Any, Any, Any]) -> None:
    _, base, derived, opened = made
    for instance in (base(1), derived(1)):
        with pytest.raises(AttributeError):
            instance.number = 2
        with pytest.raises(AttributeError):
            del instance.number
    changed = opened()
    changed.items = [1]
    assert changed == opened([1])


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, "a", 2), {}), ((1,), {"number": 1}), ((1,), {"other": 1})]
)
def test_refused(
    made: tuple[ModuleType, Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    _, base, _, _ = made
    with pytest.raises(TypeError):
        base(*args, **kwargs)
