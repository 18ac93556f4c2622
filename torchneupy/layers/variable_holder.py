"""What a layer knows of its variables: what was asked for, whether they exist, how they are made and changed."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import nn

from torchneupy.core.declarations import find_declaration
from torchneupy.core.parameters import Given, ParameterProperty
from torchneupy.exceptions import WeightInitializationError
from torchneupy.layers import variables
from torchneupy.layers.variables import HasVariables, VariablesView

__all__ = ["VariableHolder"]


class VariableHolder(HasVariables):
    """A module whose declared options may become variables, once the shapes of its inputs are known."""

    _defaulted: ClassVar[tuple[str, ...]] = ()
    _expected_as_buffers: ClassVar[tuple[str, ...]] = ()
    _may_be_modules: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        values = {name: option.value for name, option in cls.options.items()}
        cls._defaulted = tuple(
            name for name, v in values.items() if isinstance(v, ParameterProperty) and v.default is not None
        )
        cls._expected_as_buffers = tuple(
            name for name, v in values.items() if isinstance(v, ParameterProperty) and not v.trainable
        )
        cls._may_be_modules = tuple(name for name, v in values.items() if v.accepts_modules)

    def __init__(self) -> None:
        specifications = vars(self).get("_specifications", {})
        for declared in self._defaulted:
            specifications.setdefault(declared, find_declaration(type(self), declared).specification(self))
        super().__init__()
        self._parameters.update(dict.fromkeys(specifications))
        for declared in self._expected_as_buffers:
            if declared in specifications:
                self._buffers[declared] = self._parameters.pop(declared)
        # Into the dictionary itself: nn.Module looks at each attribute that is assigned, which takes a third of the
        # time in which a layer is made.
        vars(self).update(_specifications=specifications, _variable_keys={}, _built_for=None, _not_built_because=None)
        for declared in self._may_be_modules:
            if isinstance(vars(self).get(declared), nn.Module):
                setattr(self, declared, vars(self)[declared])  # now there is a place for children

    @property
    def variables(self) -> VariablesView:
        return VariablesView(self)

    @property
    def _makes_variables(self) -> bool:
        return type(self).create_variables is not VariableHolder.create_variables

    @property
    def _is_waiting(self) -> bool:
        """Whether this very layer wants variables and has none yet."""
        return self._built_for is None and self._makes_variables

    @property
    def is_built(self) -> bool:
        return not self._is_waiting

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
        if self._is_stand_in:
            variables.fail_if_given(self, name, value)
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
        self._variable_keys[name] = name
        variables.register(self, name, tensor)
        return self._parameters[name] if trainable else self._buffers[name]

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
            variables.sample_into(self, name, value) for name, value in params.items() if name in self._variable_keys
        ]
        for name, value in params.items():
            self.options[name].value.specify(self, value)
        for write in writes:
            write()
        variables.forget_arrays(self)
        return self

    def _fail_if_made_differently(self, name: str, value: Any) -> None:
        """Raise ValueError if an option would add a variable to a layer that is built, or take one away."""
        becomes_variable = isinstance(self.options[name].value, ParameterProperty) and value is not self._option(name)
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
                params[name] = current if shared or current.is_meta else variables.as_array(current).copy()
        return params

    def _option(self, name: str) -> Any:
        """An option as it was asked for."""
        return find_declaration(type(self), name).specification(self)
