"""Layers: the base class of all, and the two that compute nothing."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import lru_cache, partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, ClassVar, Self

import numpy as np
import torch

from torchneupy.core.declarations import as_tuple
from torchneupy.core.parameters import describe_array
from torchneupy.core.properties import Property, TypedListProperty
from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import naming
from torchneupy.layers.operators import BaseGraph
from torchneupy.layers.tracing import as_one_node, is_symbolic
from torchneupy.layers.variable_holder import VariableHolder
from torchneupy.layers.variables import Connection, draw_anew

__all__ = ["BaseLayer", "Identity", "Input", "own_class"]


FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)


def own_class(module: Any) -> type:
    """The class that a module was made of; parametrize and FSDP give objects a class of their own, derived from it."""
    cls: Any = type(module)
    own: type = first_own_class(cls)
    return own


@lru_cache(maxsize=256)
def first_own_class(cls: Any) -> type:
    """The first class in the row of parents that is not made by torch while a program runs."""
    makers = ("torch.nn.utils.parametrize", "torch.distributed.")
    row: tuple[type, ...] = cls.__mro__
    return next(base for base in row if not base.__module__.startswith(makers))


def count_positional(function: Any) -> tuple[int, int | None]:
    """The least and the largest number of inputs that a method takes; None where it takes any number."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "training"]
    least = sum(place.default is inspect.Parameter.empty for place in places)
    unbounded = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return least, None if unbounded else len(places)


class BaseLayer(BaseGraph, VariableHolder):
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

    #: Whether the layer reads its inputs as whole numbers, which must stay such; or the places of those that it does.
    takes_indices: ClassVar[bool | tuple[int, ...]] = False

    original_name: str | None
    _input_shape: TensorShape
    _takes_training: ClassVar[bool] = False
    _n_inputs: ClassVar[tuple[int, int | None]] = (0, None)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Runs too for the classes that parametrize and FSDP make while a program runs: nothing is counted here.
        super().__init_subclass__(**kwargs)
        if "output" in vars(cls):
            parameters = inspect.signature(cls.output).parameters
            takes_keywords = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            # A layer of the library that takes the flag names it.
            own = cls.__module__.startswith(__package__ + ".")
            cls._takes_training = "training" in parameters or (takes_keywords and not own)
            cls._n_inputs = count_positional(cls.output)

    def __init__(self, name: str | None = None) -> None:
        if type(self).output is BaseLayer.output:
            raise TypeError(f"Can't instantiate abstract class {type(self).__name__} with abstract method output")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"The name of {type(self).__name__} should be a str or None, got {name!r}")
        vars(self).update(original_name=name, _input_shape=TensorShape(None))
        super().__init__()
        self._take_name()

    def _take_name(self) -> None:
        """Name the layer by its pattern, automatic or given, or by the literal name that it was given."""
        pattern = self._automatic_pattern() if self.original_name is None else self.original_name
        try:
            new = naming.new_name(pattern)
        except ValueError as error:
            error.args = (f"{error} (name of {own_class(self).__name__})",)
            raise
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
            if f"`{self.name}`" not in str(error) and f"Layer: {self}" not in str(error):
                shapes = ", ".join(map(str, input_shapes))
                error.add_note(f"Raised by get_output_shape of layer `{self.name}` for {shapes}. Layer: {self}")
            raise

    def _infer(self, *input_shapes: TensorShape) -> tuple[TensorShape, list[Connection]]:
        """The output shape, and what has to be built for these inputs: the layer itself, if its class has variables."""
        has_variables = type(self).create_variables is not VariableHolder.create_variables
        return self.infer_output_shape(*input_shapes), [(self, input_shapes)] if has_variables else []

    # Computation

    def output(self, *inputs: Any, **kwargs: Any) -> Any:
        """The layer's arithmetic. It runs no hooks; calling the layer does."""
        raise NotImplementedError

    def forward(self, *inputs: Any) -> Any:
        """``output`` with ``training`` as the layer's mode has it."""
        if self._takes_training:
            if inputs and is_symbolic(inputs[0]):
                return as_one_node(self, *inputs)  # or the graph would keep the mode that it was traced in
            return self.output(*inputs, training=self.training)
        return self.output(*inputs)

    # Variables

    def reset_parameters(self) -> None:
        """Draw the initial values of the layer's variables anew, and write them into the variables.

        Torch's name and convention: each module answers for what it has itself, so that a network, or a layer that was
        made of a module, leaves this to its parts. All variables that the layer has asked for are drawn, running
        statistics too, in the order in which they were made: after ``torch.manual_seed`` they get the values that
        building gave them, if the layers were built in the order of the network; parts that were joined first were
        built first. Where FSDP2 has divided them, all processes get those of the first. A layer that is not built yet
        stays so, as torch's lazy modules do.

        A class that has tensors besides, registered by its constructor, says in a method of its own how they begin.

        Raises
        ------
        ValueError
            If one of them was given as an array, a tensor or an ``nn.Parameter``, whose values are kept nowhere else.
            Nothing has changed then; load a state.

        Examples
        --------
        >>> import torch
        >>> from torchneupy.layers import *
        >>> with torch.device("meta"):
        ...     network = Input(10) >> Relu(5) >> BatchNorm() >> Softmax(3)
        >>> network = network.to_empty(device="cpu")
        >>> for module in network.modules():
        ...     if hasattr(module, "reset_parameters"):
        ...         module.reset_parameters()
        >>> network[2].running_inv_std
        tensor([[1., 1., 1., 1., 1.]])
        """
        if self._built_for is not None:
            draw_anew(self, own_class(self))

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
        if isinstance(value, FUNCTIONS):
            return f"<function {value.__name__}>"  # without the address, which means nothing to anyone
        return describe_array(value) if isinstance(value, (np.ndarray, torch.Tensor)) else repr(value)

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
