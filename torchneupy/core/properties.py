"""Options that a class declares and that validate what is assigned to them.

An option is a descriptor. It brings a value into its canonical form, checks it, and keeps it in the instance's
``__dict__``, so that deepcopy, pickle and ``torch.compile`` see an ordinary attribute.

>>> from torchneupy.core.config import Configurable
>>> class Noise(Configurable):
...     level = NumberProperty(default=0.5, minval=0)
>>> Noise().level, Noise(level=2).level
(0.5, 2)
>>> Noise(level=-1)
Traceback (most recent call last):
...
ValueError: Value `level` should be between 0 and inf, got -1 (option of Noise)
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from torchneupy.core.declarations import (
    NUMBER_TYPES,
    BaseProperty,
    WithdrawProperty,
    as_tuple,
    plain_number,
    type_names,
)
from torchneupy.core.parameters import ParameterProperty, ScalarVariableProperty

__all__ = [
    "ArrayProperty",
    "BaseProperty",
    "BoundedProperty",
    "ChoiceProperty",
    "FunctionWithOptionsProperty",
    "IntProperty",
    "NumberProperty",
    "ParameterProperty",
    "ProperFractionProperty",
    "Property",
    "ScalarVariableProperty",
    "TypedListProperty",
    "WithdrawProperty",
]


class Property(BaseProperty):
    """An option of given types.

    Parameters
    ----------
    expected_type : type or tuple of types
        Defaults to ``object``, which is anything. ``Callable`` is any function, or callable object, but no class: its
        instance is what was meant.
    default, required, allow_none, fixed
        As in :class:`BaseProperty`.
    """

    def __init__(self, expected_type: Any = object, *args: Any, **kwargs: Any) -> None:
        self.expected_type = expected_type
        # A module is callable, and becomes a child of a layer that is given one.
        self.accepts_modules = expected_type is Callable
        super().__init__(*args, **kwargs)

    def validate(self, value: Any) -> None:
        super().validate(value)
        if self.expected_type is Callable and isinstance(value, type):
            raise TypeError(f"Expected a function for `{self.name}` property, got the class {value!r}")


class ArrayProperty(BaseProperty):
    """A numpy array or matrix."""

    expected_type = (np.ndarray, np.matrix)


class TypedListProperty(BaseProperty):
    """A list or tuple whose elements are of given types. A list stays a list, but a copy of the one that was given.

    Parameters
    ----------
    n_elements : int or None
        How many elements there have to be. Defaults to ``None``, which is any number.
    element_type : type or tuple of types
        Defaults to ``int``. A bool does not count as an int.
    minval : int or None
        The least value of an element. Defaults to ``None``, which is no bound.
    excluded : tuple
        Values that no element may have. Defaults to ``()``.
    unique : bool
        Whether no two elements may be equal. Defaults to ``False``.
    single : bool
        Whether an element alone may be given, and stands for as many of it as there have to be, else for one. Defaults
        to ``False``.
    default, required, allow_none, fixed
        As in :class:`BaseProperty`.
    """

    expected_type = (list, tuple)

    def __init__(
        self,
        n_elements: int | None = None,
        element_type: Any = int,
        *args: Any,
        minval: int | None = None,
        excluded: tuple[Any, ...] = (),
        unique: bool = False,
        single: bool = False,
        **kwargs: Any,
    ) -> None:
        self.n_elements = n_elements
        self.element_type = element_type
        self.minval = minval
        self.excluded = excluded
        self.unique = unique
        self.single = single
        super().__init__(*args, **kwargs)

    def normalise(self, value: Any) -> Any:
        if self.single and isinstance(value, (*as_tuple(self.element_type), np.integer)):
            value = (value,) * (self.n_elements or 1)
        if not isinstance(value, (list, tuple)):
            return value
        elements = [element.item() if isinstance(element, np.integer) else element for element in value]
        return elements if isinstance(value, list) else tuple(elements)

    def validate(self, value: Any) -> None:
        super().validate(value)
        if self.n_elements is not None and len(value) != self.n_elements:
            raise ValueError(f"Expected list with {self.n_elements} variables for `{self.name}`, got {value!r}")
        allowed = as_tuple(self.element_type)
        if not all(isinstance(v, allowed) and (bool in allowed or not isinstance(v, bool)) for v in value):
            raise TypeError(
                f"The `{self.name}` parameter received invalid element types in list/tuple. "
                f"Expected element types: {type_names(allowed)}, Value: {value!r}"
            )
        if self.minval is not None and any(v is not None and v < self.minval for v in value):
            raise ValueError(f"Elements of `{self.name}` should not be less than {self.minval}, got {value!r}")
        for element in self.excluded:
            if element in value:
                raise ValueError(f"Elements of `{self.name}` should not be {element!r}, got {value!r}")
        if self.unique and len(set(value)) < len(value):
            raise ValueError(f"Elements of `{self.name}` should be unique, got {value!r}")


class ChoiceProperty(BaseProperty):
    """One of several choices.

    The instance keeps the key; reading the option gives what stands under it.

    Parameters
    ----------
    choices : list, tuple, set or dict
        A dictionary gives names to values.
    default, required, allow_none, fixed
        As in :class:`BaseProperty`.

    Raises
    ------
    ValueError
        If there are no choices, or they are of another type.
    """

    def __init__(self, choices: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(choices, (list, tuple, set)):
            choices = {choice: choice for choice in choices}
        if not isinstance(choices, Mapping):
            raise ValueError(f"Choice properties can be only a `dict`, got `{type(choices).__name__}`: {choices!r}")
        if not choices:
            raise ValueError(f"Must be at least one choice in property, got {choices!r}")
        self.choices: dict[Any, Any] = dict(choices)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return None if instance is None else self.resolve(self.stored(instance))

    def resolve(self, value: Any) -> Any:
        """What stands under a stored key."""
        return None if value is None else self.choices[value]

    def validate(self, value: Any) -> None:
        try:
            known = value in self.choices
        except TypeError:  # a list, say, which cannot be a key
            known = False
        if not known:
            choices = ", ".join(map(str, self.choices))
            raise ValueError(f"Wrong value `{value}` for property `{self.name}`. Available values: {choices}")


class FunctionWithOptionsProperty(ChoiceProperty):
    """A function: one of several that have names, or any other callable object, an ``nn.Module`` too."""

    accepts_modules = True

    @staticmethod
    def is_function(value: Any) -> bool:
        # A class is callable, but its instance is what was meant.
        return callable(value) and not isinstance(value, type)

    def resolve(self, value: Any) -> Any:
        return value if self.is_function(value) else super().resolve(value)

    def validate(self, value: Any) -> None:
        if not self.is_function(value):
            super().validate(value)


class BoundedProperty(BaseProperty):
    """A number between two bounds, which are part of the range.

    Parameters
    ----------
    minval, maxval : float
        Default to minus and plus infinity.
    default, required, allow_none, fixed
        As in :class:`BaseProperty`.
    """

    def __init__(self, minval: float = -np.inf, maxval: float = np.inf, *args: Any, **kwargs: Any) -> None:
        self.minval = minval
        self.maxval = maxval
        super().__init__(*args, **kwargs)

    def normalise(self, value: Any) -> Any:
        return plain_number(value)

    def validate(self, value: Any) -> None:
        super().validate(value)
        if not self.minval <= value <= self.maxval:
            raise ValueError(f"Value `{self.name}` should be between {self.minval} and {self.maxval}, got {value!r}")


class NumberProperty(BoundedProperty):
    """A number, whole or not."""

    expected_type = NUMBER_TYPES


class ProperFractionProperty(BoundedProperty):
    """A number from zero to one."""

    expected_type = (float, int)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(0, 1, *args, **kwargs)


class IntProperty(BoundedProperty):
    """A whole number; a float that is whole, such as ``5.0``, becomes an int."""

    expected_type = (numbers.Integral, np.integer)

    def normalise(self, value: Any) -> Any:
        value = plain_number(value)
        return int(value) if isinstance(value, float) and value.is_integer() else value
