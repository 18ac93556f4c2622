"""What every declared option has in common: how it is checked, kept, inherited and withdrawn."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from torch import nn

__all__ = [
    "NUMBER_TYPES",
    "BaseProperty",
    "Declaration",
    "WithdrawProperty",
    "as_tuple",
    "describe_owner",
    "find_declaration",
    "plain_number",
    "type_names",
]

NUMBER_TYPES = (int, float, np.floating, np.integer)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A tuple or list as a tuple, anything else as a tuple of one."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def type_names(types: Any) -> str:
    """Names of types, for a message."""
    return ", ".join(expected.__name__ for expected in as_tuple(types))


def plain_number(value: Any) -> Any:
    """A number of numpy, or a bool, as Python's own int or float; anything else as it is."""
    if isinstance(value, np.floating):
        return float(value)
    return int(value) if isinstance(value, (bool, np.integer)) else value


def describe_owner(instance: Any) -> str:
    """An object's class, and its name if it has one, for a message."""
    name = vars(instance).get("name")
    return type(instance).__name__ + (f" {name!r}" if isinstance(name, str) else "")


class Declaration:
    """What all options have in common: a name, a default, a check. See :class:`BaseProperty`."""

    expected_type: Any = object
    accepts_modules = False

    def __init__(
        self, default: Any = None, required: bool = False, allow_none: bool = False, *, fixed: bool = False
    ) -> None:
        self.name: str | None = None
        self.default = default
        self.required = required
        self.fixed = fixed
        self.allow_none = allow_none
        if allow_none:
            self.expected_type = (*as_tuple(self.expected_type), type(None))

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def clean(self, value: Any, instance: Any = None) -> Any:
        """The value in its canonical form.

        Raises
        ------
        TypeError, ValueError
            If the value is not acceptable; the message names the option, the value, and the owner where it is known.
        """
        value = self.normalise(value)
        try:
            if value is not None or not self.allow_none:
                self.validate(value)
        except (TypeError, ValueError) as error:
            if instance is not None and len(error.args) == 1 and isinstance(error.args[0], str):
                error.args = (f"{error.args[0]} (option of {describe_owner(instance)})",)
            raise
        return value

    def normalise(self, value: Any) -> Any:
        """One form for all spellings of a value; what is not acceptable is passed on to ``validate``."""
        return value

    def validate(self, value: Any) -> None:
        """Raise TypeError or ValueError if the value is not acceptable."""
        if not isinstance(value, self.expected_type):
            raise TypeError(
                f"Invalid data type `{type(value).__name__}` for `{self.name}` property. "
                f"Expected types: {type_names(self.expected_type)}, got {value!r}"
            )

    def specify(self, instance: Any, value: Any) -> None:
        """Check a value and keep it as what the user asks for."""
        raise NotImplementedError

    def specification(self, instance: Any) -> Any:
        """What the user asked for: the value with which a constructor would make an equal object."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}()" if self.name is None else f'{type(self).__name__}(name="{self.name}")'


class BaseProperty(Declaration):
    """An option that checks each value when it is assigned.

    Subclasses say what they accept with ``expected_type`` or by overriding ``normalise`` and ``validate``.

    Parameters
    ----------
    default : object
        Value of the option where none was assigned. Defaults to ``None``, which means that there is none.
    required : bool
        ``Configurable`` refuses to make an object without this option. Defaults to ``False``.
    allow_none : bool
        ``None`` may be assigned. Defaults to ``False``.
    fixed : bool
        A layer that is connected keeps the value, on which shapes depend. Defaults to ``False``.

    Attributes
    ----------
    name : str or None
        The attribute under which the class declares the option.
    expected_type : type or tuple of types
        What a value has to be an instance of.
    """

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        try:
            return instance.__dict__[self.name]
        except (AttributeError, KeyError):
            return None if instance is None else self.stored(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self.name] = self.clean(value, instance)

    def clean(self, value: Any, instance: Any = None) -> Any:
        value = super().clean(value, instance)
        is_built = instance is not None and vars(instance).get("_built_for") is not None
        if self.fixed and is_built and value != self.stored(instance):
            raise ValueError(
                f"Cannot change `{self.name}` from {self.stored(instance)!r} to {value!r}: the layer is connected "
                f"already. Make a new layer. (option of {describe_owner(instance)})"
            )
        return value

    def stored(self, instance: Any) -> Any:
        """What the instance keeps under this option, else the default."""
        values = vars(instance)
        if self.name in values:
            return values[self.name]
        # nn.Module keeps a module that is assigned to it among its children, whatever the attribute was declared as.
        module = values.get("_modules", {}).get(self.name)
        if module is not None:
            if not self.accepts_modules:
                raise TypeError(f"Option `{self.name}` of {describe_owner(instance)} cannot be a module, got {module}")
            return module
        return None if self.default is None else super().clean(self.default, instance)

    def specify(self, instance: Any, value: Any) -> None:
        # Not by setattr(): nn.Module would take modules and parameters aside, and never ask whether they are wanted.
        self.__set__(instance, value)
        values = vars(instance)
        if "_modules" in values:
            values["_modules"].pop(self.name, None)
            if isinstance(values[self.name], nn.Module):
                setattr(instance, str(self.name), values[self.name])

    def specification(self, instance: Any) -> Any:
        return self.stored(instance)


class WithdrawProperty:
    """Takes an inherited option out of a class's options; its value stays readable, and the parent may assign it.

    >>> from torchneupy.core.config import Configurable
    >>> from torchneupy.core.properties import IntProperty
    >>> class Parent(Configurable):
    ...     size = IntProperty(default=5)
    >>> class Child(Parent):
    ...     size = WithdrawProperty()
    >>> Child().size, "size" in Child.options
    (5, False)
    """

    inherited: Any = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.inherited = next((vars(base)[name] for base in owner.__mro__[1:] if name in vars(base)), None)
        if self.inherited is None:
            raise TypeError(f"{owner.__name__} withdraws the option `{name}`, which none of its parents has")

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self.inherited.__get__(instance, owner)

    def __set__(self, instance: Any, value: Any) -> None:
        self.inherited.specify(instance, value)


def find_declaration(cls: Any, name: str) -> Declaration:
    """The declaration of an attribute, also of one that a class has withdrawn from its options.

    Raises
    ------
    AttributeError
        If no class in the row of parents declares it.
    """
    return search_declaration(cls, name)


@lru_cache(maxsize=1024)
def search_declaration(cls: Any, name: str) -> Declaration:
    """As :func:`find_declaration`, which remembers what it found."""
    for base in cls.__mro__:
        found = vars(base).get(name)
        while isinstance(found, WithdrawProperty):
            found = found.inherited
        if isinstance(found, Declaration):
            return found
    raise AttributeError(f"{cls.__name__} declares no option `{name}`")
