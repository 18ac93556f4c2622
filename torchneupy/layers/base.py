"""Layers: the base class of all, and the two that compute nothing."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from torchneupy.core.config import BaseConfigurable
from torchneupy.core.properties import (
    Given,
    ParameterProperty,
    Property,
    TypedListProperty,
    as_tuple,
    describe_array,
    find_declaration,
)
from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers import naming, variables
from torchneupy.layers.operators import BaseGraph
from torchneupy.layers.variables import Connection, VariablesView

__all__ = ["BaseLayer", "Identity", "Input", "own_class"]


def own_class(layer: Any) -> type:
    """The class that a layer was made of; parametrize and FSDP give objects a class of their own, derived from it."""
    return next(base for base in type(layer).__mro__ if not base.__module__.startswith("torch."))


def count_positional(function: Any) -> tuple[int, int | None]:
    """The least and the largest number of inputs that a method takes; None where it takes any number."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "training"]
    least = sum(place.default is inspect.Parameter.empty for place in places)
    unbounded = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return least, None if unbounded else len(places)


class BaseLayer(BaseGraph, BaseConfigurable, nn.Module):
    """Base class of all layers.

    A layer is an ``nn.Module``. A new one is written by subclassing: ``output`` holds its arithmetic,
    ``get_output_shape`` says what shape comes out, ``create_variables`` asks for its variables. ``output`` may be
    written ``output(self, x)``, ``output(self, x, **kwargs)`` or ``output(self, x, training=False)``; calling the
    layer runs it with ``training`` as the layer's mode has it.

    Parameters
    ----------
    name : str or None
        - A name, ``"fc"``, is taken as it is.
        - A pattern, ``"fc{}"`` or ``"fc-{:<03d}"``, is filled with a number that counts on for each pattern: ``fc1``,
          ``fc2``, or ``fc-001``, ``fc-002``.
        - ``None`` makes a pattern from the name of the class: ``relu-1``, ``relu-2``.

        Defaults to ``None``.

    Attributes
    ----------
    variables : Mapping
        The layer's variables by name; empty as long as they were not made.
    input_shape, output_shape : TensorShape
        What is known of the shapes, ``(batch, ...)``.
    is_built : bool
        Whether the layer's variables exist, if it has any.

    Raises
    ------
    TypeError
        If the class does not define ``output``, or the name is no text.
    ValueError
        If the pattern of the name cannot be used.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> class Scale(BaseLayer):
    ...     def get_output_shape(self, input_shape):
    ...         return input_shape
    ...     def create_variables(self, input_shape):
    ...         self.scale = self.variable(value=1, name="scale", shape=input_shape[1:])
    ...     def output(self, x):
    ...         return x * self.scale
    >>> network = Input(3) >> Scale()
    >>> network
    (?, 3) -> [... 2 layers ...] -> (?, 3)
    >>> network.variables
    {(Scale(name='scale-1'), 'scale'): Parameter containing:
    tensor([1., 1., 1.], requires_grad=True)}
    """

    name = Property(expected_type=str)

    #: Whether the layer reads its inputs as indices, which must not become fractions.
    takes_indices: ClassVar[bool] = False

    original_name: str | None
    _specifications: dict[str, Any]
    _variable_keys: dict[str, str]
    _input_shape: TensorShape
    _built_for: tuple[TensorShape, ...] | None
    _not_built_because: str | None
    _wanted: dict[str, tuple[int, ...]] | None = None

    _takes_training: ClassVar[bool] = False
    _takes_keywords: ClassVar[bool] = False
    _n_inputs: ClassVar[tuple[int, int | None]] = (0, None)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Runs too for the classes that parametrize and FSDP make while a program runs: nothing is counted here.
        super().__init_subclass__(**kwargs)
        if "output" in vars(cls):
            parameters = inspect.signature(cls.output).parameters
            cls._takes_keywords = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            # A layer of the library that takes the flag names it.
            own = cls.__module__.startswith(__package__ + ".")
            cls._takes_training = "training" in parameters or (cls._takes_keywords and not own)
            cls._n_inputs = count_positional(cls.output)

    def __init__(self, name: str | None = None) -> None:
        if type(self).output is BaseLayer.output:
            raise TypeError(f"Can't instantiate abstract class {type(self).__name__} with abstract method output")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"The name of {type(self).__name__} should be a str or None, got {name!r}")
        specifications = vars(self).get("_specifications", {})
        for declared, option in self.options.items():
            if isinstance(option.value, ParameterProperty) and option.value.default is not None:
                specifications.setdefault(declared, option.value.clean(option.value.default, self))
        super().__init__()
        self._parameters.update(dict.fromkeys(specifications))
        # Into the dictionary itself: nn.Module looks at each attribute that is assigned, which takes a third of the
        # time in which a layer is made.
        vars(self).update(
            _specifications=specifications,
            _variable_keys={},
            _input_shape=TensorShape(None),
            _built_for=None,
            _not_built_because=None,
            original_name=name,
        )
        for declared in self.options:
            if isinstance(vars(self).get(declared), nn.Module):
                setattr(self, declared, vars(self)[declared])  # now there is a place for children
        self._take_name()

    def _take_name(self) -> None:
        """Name the layer by its pattern, automatic or given, or by the literal name that it was given."""
        pattern = self._automatic_pattern() if self.original_name is None else self.original_name
        new = naming.new_name(pattern)
        is_pattern = naming.is_pattern(pattern)
        vars(self).update(name=new, _name_pattern=pattern if is_pattern else None, _generated_name=new)

    def _automatic_pattern(self) -> str:
        return naming.automatic_pattern(own_class(self).__name__)

    @classmethod
    def define(cls, *args: Any, **kwargs: Any) -> partial[Self]:
        """A constructor with some arguments given already.

        >>> from torchneupy.layers import *
        >>> Leaky = Relu.define(alpha=0.1)
        >>> Leaky(5).alpha
        0.1
        """
        return partial(cls, *args, **kwargs)

    # Shapes

    @property
    def input_shape(self) -> TensorShape:
        return self._input_shape

    @input_shape.setter
    def input_shape(self, shape: ShapeLike) -> None:
        new = TensorShape(shape)
        if not self._input_shape.is_compatible_with(new):
            raise ValueError(
                f"Cannot update input shape of the layer, because it's incompatible with current input shape. "
                f"Current shape: {self._input_shape}, New shape: {new}, Layer: {self}"
            )
        vars(self)["_input_shape"] = new

    @property
    def output_shape(self) -> TensorShape:
        return TensorShape(self.get_output_shape(self.input_shape))

    def get_output_shape(self, *input_shapes: Any) -> ShapeLike:
        """The shape that comes out for given input shapes, ``(batch, ...)``; unknown unless a subclass says it."""
        return TensorShape(None)

    def infer_output_shape(self, *input_shapes: TensorShape) -> TensorShape:
        """``get_output_shape``, with the number of inputs checked.

        Raises
        ------
        LayerConnectionError
            If the layer takes another number of inputs.
        """
        least, most = self._n_inputs
        if not least <= len(input_shapes) <= (len(input_shapes) if most is None else most):
            expected = least if least == most else f"{least} to {most}" if most else f"at least {least}"
            raise LayerConnectionError(
                f"Layer `{self.name}` takes {expected} input(s), got {len(input_shapes)} with shapes "
                f"{', '.join(map(str, input_shapes))}. Layer: {self}"
            )
        if len(input_shapes) == 1 and not input_shapes[0].is_compatible_with(self.input_shape):
            raise LayerConnectionError(
                f"Layer `{self.name}` cannot take an input of shape {input_shapes[0]}, because its input shape is "
                f"{self.input_shape}. Layer: {self}"
            )
        try:
            return TensorShape(self.get_output_shape(*input_shapes))
        except Exception as error:
            shapes = ", ".join(map(str, input_shapes))
            error.add_note(f"Raised by get_output_shape of layer `{self.name}` for {shapes}. Layer: {self}")
            raise

    def _infer(self, *input_shapes: TensorShape) -> tuple[TensorShape, list[Connection]]:
        """The output shape, and what has to be built for these inputs: the layer itself, if it makes variables."""
        return self.infer_output_shape(*input_shapes), [(self, input_shapes)] if self._makes_variables else []

    # Variables

    @property
    def variables(self) -> VariablesView:
        return VariablesView(self)

    @property
    def _makes_variables(self) -> bool:
        return type(self).create_variables is not BaseLayer.create_variables

    @property
    def is_built(self) -> bool:
        return self._built_for is not None or not self._makes_variables

    def specify(self, **values: Any) -> None:
        """Check and keep options; constructors call it.

        They do so before the base class names the layer, so that a refused layer leaves no gap in the numbers.

        Raises
        ------
        TypeError, ValueError
            If a value is of a wrong type or out of its range.
        """
        for name, value in values.items():
            find_declaration(type(self), name).specify(self, value)

    def create_variables(self, *input_shapes: Any) -> Any:
        """Ask for the layer's variables by ``self.variable``.

        Called when the layer is connected. Where the shapes do not tell enough, raise WeightInitializationError (or
        let ``variable`` do so, given a size of None): the layer is then asked again when it is connected elsewhere.
        """
        return NotImplemented

    def variable(self, value: Any, name: str, shape: Any = None, trainable: bool = True) -> Any:
        """Make a variable of the layer.

        Parameters
        ----------
        value : Initializer, number, array or tensor
            An ``nn.Parameter`` is shared, everything else is copied to torch's default device and dtype. ``None``
            stands for what the constructor was given for an option of this name.
        name : str
            Key in ``variables``. The state_dict key too, unless the variable is assigned to another attribute.
        shape : tuple of int, optional
            Needed unless the value is an array or a tensor.
        trainable : bool
            A variable that is not trainable is a buffer. Defaults to ``True``.

        Returns
        -------
        nn.Parameter or Tensor

        Raises
        ------
        WeightInitializationError
            If a size is unknown.
        LayerConnectionError
            If a given array has another shape.
        """
        if value is None:
            value = self._option(name)
        sizes = variables.known_shape(self, name, shape, value)
        if self._wanted is not None:
            self._wanted[name] = sizes
            return self.variables[name]
        where = f"layer/{self.name}/{name}"
        tensor = variables.make_tensor(value, sizes, where)
        if not trainable:
            tensor = tensor.detach()
        elif not isinstance(tensor, nn.Parameter):
            tensor = nn.Parameter(tensor)
        if name not in self._variable_keys:
            variables.fail_if_taken(self, name)
        variables.register(self, name, tensor)
        self._variable_keys[name] = name
        return tensor

    def fail_if_not_built(self) -> None:
        """Raise WeightInitializationError if the layer's variables do not exist."""
        if not self.is_built:
            reason = self._not_built_because or (
                f"it is not connected to an input of known shape. Connect it, as in Input(10) >> layer. Layer: {self}"
            )
            raise WeightInitializationError(f"Layer `{self.name}` has no variables yet: {reason}")

    def set_params(self, **params: Any) -> Self:
        """Assign options. For a variable that exists new values are written into it.

        Every value is checked before the first one is assigned.

        Raises
        ------
        ValueError
            If there is no such option, a value is out of range, or an array has another shape than the variable.
        TypeError
            If a value is of a wrong type.
        """
        self.check_names(params)
        for name, value in params.items():
            params[name] = self.options[name].value.clean(value, self)
        for name, value in params.items():
            self._fail_if_made_differently(name, value)
        writes = [
            variables.sample_into(self, name, value)
            for name, value in params.items()
            if name in self._variable_keys
        ]
        for name, value in params.items():
            self.options[name].value.specify(self, value)
        for write in writes:
            write()
        variables.forget_arrays(self)
        return self

    def _fail_if_made_differently(self, name: str, value: Any) -> None:
        """Raise ValueError if an option would add a variable to a layer that is built, or take one away."""
        becomes_variable = isinstance(self.options[name].value, ParameterProperty)
        if becomes_variable and self._built_for is not None and (name in self._variable_keys) != (value is not None):
            raise ValueError(
                f"Cannot set `{name}` of layer `{self.name}` to {value!r}: the layer was built "
                f"{'with' if value is None else 'without'} that variable. Make a new layer. Layer: {self}"
            )

    def get_params(self, deep: bool = False) -> dict[str, Any]:
        """The options' values, as the constructor takes them; an array that was given as its current values."""
        params = super().get_params(deep)
        for name, value in params.items():
            if isinstance(value, Given):
                current = self.variables[name]
                shared = isinstance(current, nn.Parameter) and value.text.startswith("<Variable")
                params[name] = current if shared else variables.as_array(current).copy()
        return params

    # Computation

    def output(self, *inputs: Any, **kwargs: Any) -> Any:
        """The layer's arithmetic. It runs no hooks; calling the layer does."""
        raise NotImplementedError

    def forward(self, *inputs: Any) -> Any:
        """``output`` with ``training`` as the layer's mode has it."""
        if self._takes_training:
            return self.output(*inputs, training=self.training)
        return self.output(*inputs)

    # Copies

    def __copy__(self) -> Self:
        """A new, independent layer, with a new name where the name was automatic or a pattern."""
        layer = copy.deepcopy(self)
        layer._take_name()
        return layer

    def _copy_under_new_names(self) -> Self:
        return copy.copy(self)

    # Text

    def _repr_arguments(self, *args: Any, **kwargs: Any) -> str:
        """The layer as the call that makes it; keyword arguments in the order in which the constructor has them."""
        cls = own_class(self)
        order = list(inspect.signature(cls).parameters)
        names = sorted(kwargs, key=lambda name: order.index(name) if name in order else len(order))
        parts = [*map(str, args), *(f"{name}={self._format_value(kwargs[name])}" for name in names)]
        return f"{cls.__name__}({', '.join(parts)})"

    @staticmethod
    def _format_value(value: Any) -> str:
        return describe_array(value) if isinstance(value, (np.ndarray, torch.Tensor)) else repr(value)

    def _option(self, name: str) -> Any:
        """An option as it was asked for."""
        return find_declaration(type(self), name).specification(self)

    def __repr__(self) -> str:
        return self._repr_arguments(**{name: self._option(name) for name in self.options})


class Identity(BaseLayer):
    """Passes its input on. Stands for the short branch of a residual connection.

    Input and output have the same shape.

    Parameters
    ----------
    name : str or None
        As in :class:`BaseLayer`.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input(4) >> (Identity() | Relu(4) >> Linear(4)) >> Elementwise("add")
    (?, 4) -> [... 5 layers ...] -> (?, 4)
    """

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        return TensorShape(input_shape)

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input


class Input(BaseLayer):
    """Says what shape a network expects.

    Parameters
    ----------
    shape : int, tuple or None
        Shape of one sample, without the batch; ``None`` stands for a size that is not known.
    name : str or None
        As in :class:`BaseLayer`.

    Raises
    ------
    TypeError
        If a size is neither a whole number nor None.
    ValueError
        If a size is less than 1.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> Input(10) >> Relu(5) >> Softmax(3)
    (?, 10) -> [... 3 layers ...] -> (?, 3)
    >>> Input((None, None, 3)).output_shape
    TensorShape([None, None, None, 3])
    """

    shape = TypedListProperty(element_type=(int, type(None)), minval=1, single=True)

    def __init__(self, shape: ShapeLike, name: str | None = None) -> None:
        if isinstance(shape, TensorShape):
            shape = shape.as_list()
        self.specify(shape=as_tuple(shape))
        super().__init__(name=name)

    @property  # type: ignore[misc]  # this one cannot be assigned
    def input_shape(self) -> TensorShape:
        return TensorShape((None, *self.shape))

    def get_output_shape(self, input_shape: Any) -> ShapeLike:
        expected, received = self.input_shape, TensorShape(input_shape)
        if not expected.is_compatible_with(received):
            raise LayerConnectionError(
                f"Input layer `{self.name}` got unexpected input shape. Received shape: {received}, "
                f"Expected shape: {expected}"
            )
        return expected.merge_with(received)

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input

    def __repr__(self) -> str:
        sizes: Sequence[Any] = self.shape
        return self._repr_arguments(sizes[0] if len(sizes) == 1 else tuple(sizes), name=self.name)
