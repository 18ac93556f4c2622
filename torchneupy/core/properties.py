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
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from torchneupy import init

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
    "TypedListProperty",
    "WithdrawProperty",
]

NUMBER_TYPES = (int, float, np.floating, np.integer)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A tuple or list as a tuple, anything else as a tuple of one."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def type_names(types: Any) -> str:
    return ", ".join(expected.__name__ for expected in as_tuple(types))


def plain_number(value: Any) -> Any:
    """A number of numpy, or a bool, as Python's own int or float; anything else as it is."""
    if isinstance(value, np.floating):
        return float(value)
    return int(value) if isinstance(value, (bool, np.integer)) else value


def describe_owner(instance: Any) -> str:
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
        A layer that has its variables keeps the value, on which their shapes depend. Defaults to ``False``.

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
        values = {} if instance is None else vars(instance)
        if self.fixed and values.get("_built_for") is not None and value != values.get(self.name):
            raise ValueError(
                f"Cannot change `{self.name}` from {values.get(self.name)!r} to {value!r}: the layer has its variables "
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
        return None if self.default is None else self.clean(self.default, instance)

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


def find_declaration(cls: type, name: str) -> Declaration:
    """The declaration of an attribute, also of one that a class has withdrawn from its options.

    Raises
    ------
    AttributeError
        If no class in the row of parents declares it.
    """
    for base in cls.__mro__:
        found = vars(base).get(name)
        while isinstance(found, WithdrawProperty):
            found = found.inherited
        if isinstance(found, Declaration):
            return found
    raise AttributeError(f"{cls.__name__} declares no option `{name}`")


class Property(BaseProperty):
    """An option of given types.

    Parameters
    ----------
    expected_type : type or tuple of types
        Defaults to ``object``, which is anything.
    default, required, allow_none, fixed
        As in :class:`BaseProperty`.
    """

    def __init__(self, expected_type: Any = object, *args: Any, **kwargs: Any) -> None:
        self.expected_type = expected_type
        super().__init__(*args, **kwargs)


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
        single: bool = False,
        **kwargs: Any,
    ) -> None:
        self.n_elements = n_elements
        self.element_type = element_type
        self.minval = minval
        self.excluded = excluded
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


class Given:
    """Stands for an array or tensor that was given for a variable, once the variable holds its values."""

    def __init__(self, value: Any) -> None:
        self.text = describe_array(value)

    def __repr__(self) -> str:
        return self.text


def describe_array(value: Any) -> str:
    kinds: list[tuple[str, Any]] = [
        ("Variable", nn.Parameter),
        ("Tensor", torch.Tensor),
        ("Matrix", np.matrix),
        ("Array", np.ndarray),
    ]
    kind = next(name for name, kind in kinds if isinstance(value, kind))
    return f"<{kind} shape={tuple(value.shape)}>"


class ParameterProperty(Declaration):
    """An option that becomes a variable of a layer: an ``nn.Parameter``, or a buffer if it is not trained.

    Assigned may be an initialiser, a number (which stands for ``init.Constant``), an array or a tensor. Reading the
    attribute of a layer gives the variable, or ``None`` as long as it was not made; ``specification`` gives what was
    asked for. This descriptor has no ``__set__``: ``nn.Module`` registers parameters by itself, and what
    ``parametrize`` or ``prune`` put in the attribute's place must win.
    """

    expected_type = (np.ndarray, *NUMBER_TYPES, init.Initializer, torch.Tensor)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # Read with every call of a layer, hence the short way first.
        try:
            return instance._parameters[self.name]
        except (AttributeError, KeyError):
            return None if instance is None else self.elsewhere(instance)

    def elsewhere(self, instance: Any) -> Any:
        """The variable, if it is a buffer, or registered under another attribute; else AttributeError.

        ``hasattr`` must be False where nothing was registered: nn.Module refuses a name that an object has already.
        """
        values = vars(instance)
        key = values.get("_variable_keys", {}).get(self.name, self.name)
        if key != self.name:
            return getattr(instance, key)
        if key not in values.get("_buffers", {}):
            raise AttributeError(f"{describe_owner(instance)} has no variable `{self.name}`")
        return values["_buffers"][key]

    def normalise(self, value: Any) -> Any:
        return init.Constant(plain_number(value)) if isinstance(value, NUMBER_TYPES) else value

    def validate(self, value: Any) -> None:
        super().validate(value)
        if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
            raise TypeError(f"The array for `{self.name}` should hold real numbers, got dtype {value.dtype}")
        if isinstance(value, torch.Tensor) and value.is_complex():
            raise TypeError(f"The tensor for `{self.name}` should hold real numbers, got dtype {value.dtype}")
        if isinstance(value, torch.Tensor) and not value.is_leaf:
            raise ValueError(
                f"The tensor for `{self.name}` is the result of a computation ({value.grad_fn}), so it cannot be "
                f"trained; give `tensor.detach()` or an nn.Parameter, got a tensor of shape {tuple(value.shape)}"
            )

    def specify(self, instance: Any, value: Any) -> None:
        value = self.clean(value, instance)
        values = vars(instance)
        values.setdefault("_specifications", {})[self.name] = value
        if values.get("_built_for", "") is None:  # else nn.Module is not ready, or the variable is where it belongs
            values.pop(self.name, None)
            values["_parameters"].setdefault(self.name, None)

    def specification(self, instance: Any) -> Any:
        values = vars(instance)
        specifications = values.get("_specifications", {})
        if self.name in specifications:
            return specifications[self.name]
        if self.name in values:  # assigned as a plain attribute, as NeuPy's own layers do
            return self.clean(values[self.name], instance)
        if self.default is not None:
            return self.clean(self.default, instance)
        return values.get("_parameters", {}).get(self.name)  # a Parameter, which nn.Module has registered
