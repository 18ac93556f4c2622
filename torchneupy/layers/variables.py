"""Variables of layers: how a specification becomes an ``nn.Parameter`` or a buffer, and when.

A layer asks for its variables in ``create_variables``. That method runs when the layer is connected to something of
known shape, and runs again, changing nothing, when the layer is connected elsewhere, to see that it would ask for the
same shapes there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

from torchneupy import init
from torchneupy.core.config import BaseConfigurable
from torchneupy.core.declarations import NUMBER_TYPES
from torchneupy.core.parameters import Given, ParameterProperty, describe_array
from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError

__all__ = ["Connection", "HasVariables", "VariablesView", "as_array", "build_layers", "make_tensor"]

#: A layer and the shapes of its inputs.
Connection: TypeAlias = "tuple[HasVariables, Sequence[TensorShape]]"


class HasVariables(BaseConfigurable, nn.Module):
    """What the functions of this module know of a layer; see :class:`VariableHolder`."""

    name: Any
    _specifications: dict[str, Any]
    _variable_keys: dict[str, str]
    _built_for: tuple[TensorShape, ...] | None
    _not_built_because: str | None
    _wanted: dict[str, tuple[int, ...]] | None = None
    _is_stand_in: bool = False

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As that of ``nn.Module``, which assigning to an attribute goes through too.

        What a layer that is being built assigns to an attribute of another name than the variable's moves there.
        """
        values = vars(self)
        is_new = param is not None and values.get("_built_for", ()) is None and name not in values["_variable_keys"]
        keys = values["_variable_keys"] if is_new else {}
        moved = [key for key in keys if key == keys[key] and self._parameters.get(key) is param]
        super().register_parameter(name, param)
        for key in moved:
            del self._parameters[key]
            keys[key] = name

    def create_variables(self, *input_shapes: Any) -> Any:
        raise NotImplementedError

    @property
    def variables(self) -> Mapping[str, torch.Tensor]:
        raise NotImplementedError

    @property
    def is_built(self) -> bool:
        raise NotImplementedError


class VariablesView(Mapping[str, torch.Tensor]):
    """A layer's variables by name, in the order of their creation, read from the layer at each access.

    After those that the layer has asked for come the parameters and buffers that it has besides, as any ``nn.Module``,
    under their names there.
    """

    def __init__(self, layer: HasVariables) -> None:
        self._layer = layer

    def _entries(self) -> dict[str, torch.Tensor]:
        layer, keys = self._layer, self._layer._variable_keys
        # Where it was parametrised or pruned, the attribute gives the value in use.
        found = {name: getattr(layer, key, None) for name, key in keys.items()}
        entries: dict[str, torch.Tensor] = {name: tensor for name, tensor in found.items() if tensor is not None}
        known = {id(tensor) for tensor in entries.values()}
        others = dict(chain(layer.named_parameters(), layer.named_buffers()))
        entries.update((n, t) for n, t in others.items() if id(t) not in known and not is_origin(n, keys))
        return entries

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: <Variable shape={tuple(self[name].shape)}>' for name in self)}}}"


def is_origin(name: str, keys: Mapping[str, str]) -> bool:
    """Whether ``parametrize`` or ``prune`` compute a variable from this tensor."""
    first = name.split(".", maxsplit=1)[0]
    return first == "parametrizations" or any(name in (f"{key}_orig", f"{key}_mask") for key in keys.values())


def as_array(tensor: torch.Tensor) -> Any:
    """A tensor as an array; numpy has no bfloat16, whose values float32 holds.

    Raises
    ------
    TypeError
        If it is no tensor.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"Expected a tensor, got {tensor!r} of the type {type(tensor).__name__}")
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def make_tensor(value: Any, shape: tuple[int, ...], where: str) -> torch.Tensor:
    """The initial value of a variable, on torch's default device and of its default dtype.

    An ``nn.Parameter`` is given back as it is, so that layers can share it; everything else is copied.

    Raises
    ------
    LayerConnectionError
        If the value has another shape.
    TypeError
        If it is nothing that a variable can be made from.
    """
    is_drawn = isinstance(value, init.Initializer)
    if is_drawn:
        # NeuPy's custom initialisers may take the shape alone, and may return an array.
        value = value.sample(shape)
    elif isinstance(value, NUMBER_TYPES):
        value, is_drawn = init.Constant(float(value)).sample(shape), True
    if not isinstance(value, torch.Tensor):
        try:
            # Torch takes neither every type of numpy's nor every layout, and a variable is contiguous.
            array = np.ascontiguousarray(value, dtype=np.float64).reshape(np.shape(value))
            value, is_drawn = torch.tensor(array, dtype=torch.get_default_dtype()), True
        except (TypeError, ValueError) as error:
            raise TypeError(f"Cannot create variable `{where}` from {value!r}: {error}") from error
    if tuple(value.shape) != shape:
        raise LayerConnectionError(
            f"Cannot create variable with name `{where}`. Provided variable with shape {tuple(value.shape)} is "
            f"incompatible with expected shape {shape}"
        )
    tensor: torch.Tensor = value
    if is_drawn or isinstance(tensor, nn.Parameter):
        return tensor
    if tensor.is_meta and torch.get_default_device().type != "meta":
        raise TypeError(f"Cannot create variable `{where}` from a tensor on the meta device, which has no values")
    kind: dict[str, Any] = {"device": torch.get_default_device(), "dtype": torch.get_default_dtype()}
    return tensor.detach().to(**kind, copy=True, memory_format=torch.contiguous_format)


def known_shape(layer: HasVariables, name: str, shape: Any, value: Any) -> tuple[int, ...]:
    """The shape of a variable as plain integers.

    Raises
    ------
    WeightInitializationError
        If one of the sizes is not known.
    """
    if type(shape) is tuple and all(type(size) is int and size >= 0 for size in shape):
        return shape  # what nearly every layer asks for
    if shape is None:
        if not isinstance(value, (np.ndarray, torch.Tensor)):
            raise WeightInitializationError(f"Variable `{name}` of layer `{layer.name}` needs a shape. Layer: {layer}")
        shape = tuple(value.shape)
    shape = TensorShape(shape)
    if not shape.is_fully_defined():
        raise WeightInitializationError(
            f"Cannot create variable `{name}` for the layer `{layer.name}`, because its shape {shape} is not fully "
            f"known. Layer: {layer}"
        )
    return tuple(size for size in shape if size is not None)


def fail_if_taken(layer: HasVariables, key: str) -> None:
    """Raise KeyError if a variable cannot be kept under a key."""
    option = layer.options.get(key)
    if option is not None and isinstance(option.value, ParameterProperty):
        return
    attribute = getattr(type(layer), key, None) is not None or vars(layer).get(key) is not None or option is not None
    if not key or "." in key or attribute:
        raise KeyError(
            f"A variable of layer `{layer.name}` cannot be called {key!r}: the layer has an attribute of that name, or "
            f"nn.Module refuses it. Layer: {layer}"
        )


#: How torch registers, if nobody has put something in its place.
REGISTER_PARAMETER, REGISTER_BUFFER = nn.Module.register_parameter, nn.Module.register_buffer
OWN_REGISTER_PARAMETER = HasVariables.register_parameter


def is_watched(layer: HasVariables) -> bool:
    """Whether registering a variable is more than to put it into a dictionary, which is faster.

    There are hooks for it, or others have put functions of theirs in the place of torch's.
    """
    return bool(
        torch_module._global_parameter_registration_hooks
        or torch_module._global_buffer_registration_hooks
        or nn.Module.register_parameter is not REGISTER_PARAMETER
        or type(layer).register_parameter is not OWN_REGISTER_PARAMETER
        or type(layer).register_buffer is not REGISTER_BUFFER
    )


def register(layer: HasVariables, key: str, tensor: torch.Tensor) -> None:
    """Put a tensor under a key: a Parameter among the parameters, anything else among the buffers.

    Something else may be there then, as torch's hooks for registration may replace it.
    """
    places: tuple[dict[str, Any], ...] = (vars(layer), layer._parameters, layer._buffers)
    for place in places:
        place.pop(key, None)
    if is_watched(layer):
        places[1 if isinstance(tensor, nn.Parameter) else 2][key] = None  # or it would have to be no attribute at all
        setattr(layer, key, tensor)
    elif isinstance(tensor, nn.Parameter):
        layer._parameters[key] = tensor
    else:
        layer._buffers[key] = tensor


def settle(layer: HasVariables) -> None:
    """Leave each buffer under one key, and none in a plain attribute, where ``.to()`` would not find it.

    ``self.scale = self.variable(..., name="weight", trainable=False)`` has registered it under its name alone; the
    attribute stays. Parameters have moved when they were assigned.
    """
    buffers, keys = layer._buffers, layer._variable_keys
    if not buffers:
        return
    names = {id(buffers[key]): name for name, key in keys.items() if buffers.get(key) is not None}
    taken = set(keys.values())
    places: tuple[dict[str, Any], ...] = (buffers, vars(layer))
    aliases = [(k, v) for place in places for k, v in place.items() if id(v) in names and k not in taken]
    for alias, tensor in aliases:
        name = names[id(tensor)]
        if keys[name] == name:
            buffers.pop(name)
            keys[name] = alias
        register(layer, alias, tensor)


def adopt_plain_specifications(layer: HasVariables) -> None:
    """Remember what a custom layer's constructor assigned as an attribute to a declared variable."""
    values, parameters = vars(layer), layer._parameters
    for name, option in layer.options.items():
        is_assigned = name in values or parameters.get(name) is not None
        if is_assigned and isinstance(option.value, ParameterProperty):
            layer._specifications[name] = option.value.specification(layer)


def forget_arrays(layer: HasVariables) -> None:
    """Drop arrays and tensors given for variables that exist now: their values live in the variables."""
    for name, value in layer._specifications.items():
        if isinstance(value, (np.ndarray, torch.Tensor)) and name in layer._variable_keys:
            layer._specifications[name] = Given(value)


CONTAINERS = frozenset((dict, list, set, OrderedDict))


class Snapshot:
    """What a layer holds, one level deep, to be put back if a composition fails."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.values = vars(layer).copy()
        self.contents = {
            name: value.copy() if value else () for name, value in self.values.items() if type(value) in CONTAINERS
        }

    def restore(self) -> None:
        """Put back what differs, and only that: another thread may be running the layer."""
        values = vars(self.layer)
        for name in [name for name in values if name not in self.values]:
            del values[name]
        values.update((name, value) for name, value in self.values.items() if values.get(name, self) is not value)
        for name, content in self.contents.items():
            container = self.values[name]
            if not holds_the_same(container, content):
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(content)


def holds_the_same(container: Any, content: Any) -> bool:
    """Whether two containers hold the very same objects in the same order."""
    if isinstance(container, set):
        return container == set(content)
    if isinstance(container, dict):
        pairs = dict(content)
        return list(container) == list(pairs) and all(value is pairs[key] for key, value in container.items())
    return len(container) == len(content) and all(a is b for a, b in zip(container, content, strict=True))


def is_settled(layer: HasVariables, shapes: Sequence[TensorShape]) -> bool:
    return layer._built_for is not None and tuple(shapes) == layer._built_for


def verify(layer: HasVariables, shapes: Sequence[TensorShape]) -> None:
    """Raise LayerConnectionError if a layer that has its variables would want others for these input shapes."""
    before = Snapshot(layer)
    wanted: dict[str, tuple[int, ...]] = {}
    layer._wanted = wanted
    try:
        layer.create_variables(*shapes)
    except WeightInitializationError:
        return  # not known well enough to disagree
    finally:
        before.restore()
    for name, shape in wanted.items():
        present = layer.variables.get(name) if name in layer._variable_keys else None
        if present is None or tuple(present.shape) != shape:
            raise LayerConnectionError(
                f"Cannot connect layer `{layer.name}` to an input of shape {', '.join(map(str, shapes))}: its variable "
                f"`{name}` has shape {None if present is None else tuple(present.shape)}, and {shape} would be needed. "
                f"Layer: {layer}"
            )


def create(layer: HasVariables, shapes: Sequence[TensorShape], before: Snapshot) -> None:
    """Make a layer's variables, if the shapes of its inputs tell enough; else leave it as it was before."""
    known = all(shape.ndims is not None and None not in shape.as_list()[1:] for shape in shapes)
    # Where something is unknown, a custom layer may stumble over it in its own way.
    not_yet = (WeightInitializationError,) if known else (WeightInitializationError, TypeError, ValueError)
    generator = None if known else torch.get_rng_state()
    try:
        adopt_plain_specifications(layer)
        layer.create_variables(*shapes)
        settle(layer)
    except LayerConnectionError:
        raise
    except not_yet as error:
        before.restore()
        if generator is not None:
            torch.set_rng_state(generator)
        known_layer = isinstance(error, WeightInitializationError)
        reason = str(error) if known_layer else f"{type(error).__name__}: {error}. Layer: {layer}"
        vars(layer)["_not_built_because"] = reason
        return
    forget_arrays(layer)
    vars(layer).update(_not_built_because=None, _built_for=tuple(shapes))


def build_layers(connections: Iterable[Connection]) -> None:
    """Make the variables of layers, in the order given; if one of them fails, none has changed.

    Parameters
    ----------
    connections : iterable of (layer, input shapes)

    Raises
    ------
    LayerConnectionError
        If a given array does not fit, or a layer that has its variables would need others.
    """
    pending = [(layer, shapes) for layer, shapes in connections if not is_settled(layer, shapes)]
    if not pending:
        return
    generator = torch.get_rng_state()
    before: list[Snapshot] = []
    try:
        for layer, shapes in pending:
            if layer._built_for is not None:
                verify(layer, shapes)
            else:
                before.append(Snapshot(layer))
                create(layer, shapes, before[-1])
    except BaseException as error:
        for snapshot in reversed(before):
            snapshot.restore()
        torch.set_rng_state(generator)
        error.add_note(f"Raised while the variables of layer `{layer.name}` were made. Layer: {layer}")
        raise


def fail_if_given(layer: HasVariables, name: str, value: Any) -> None:
    """Raise ValueError if a variable's first values were given, and are kept nowhere else."""
    if isinstance(value, (Given, nn.Parameter)):
        text = repr(value) if isinstance(value, Given) else describe_array(value)
        raise ValueError(
            f"Cannot draw the variable `{name}` of layer `{layer.name}` anew: it was given as {text}, and the values "
            f"are not kept. Load a state instead. Layer: {layer}"
        )


def stand_in(layer: HasVariables, cls: Any) -> Any:
    """A layer with the options of another and no variables yet; what is done to it leaves the other as it is."""
    twin: Any = cls.__new__(cls)
    values = {name: value.copy() if type(value) in CONTAINERS else value for name, value in vars(layer).items()}
    for name, key in layer._variable_keys.items():
        for place in (values["_parameters"], values["_buffers"], values):  # the last is where pruning puts it
            place.pop(key, None)
        if name in layer._specifications:
            values["_parameters"][name] = None
    vars(twin).update(values, _variable_keys={}, _built_for=None, _is_stand_in=True)
    return twin


def draw_anew(layer: HasVariables, cls: type) -> None:
    """Give a layer's variables first values again, drawn in the order in which they were made.

    Made by a stand-in, because a layer of the user's may do in ``create_variables`` what it likes.

    Parameters
    ----------
    layer : HasVariables
        One that is built.
    cls : type
        The class that it was made of.
    """
    generator = torch.get_rng_state()
    try:
        twin = stand_in(layer, cls)
        twin.create_variables(*(layer._built_for or ()))
        settle(twin)
        present = layer._variable_keys.keys() & layer.variables
        fresh = {name: getattr(twin, key) for name, key in twin._variable_keys.items() if name in present}
        writes = [sample_into(layer, name, value) for name, value in fresh.items()]
    except BaseException:
        torch.set_rng_state(generator)
        raise
    for write in writes:
        write()


def sample_into(layer: HasVariables, name: str, value: Any) -> Callable[[], None]:
    """Prepare new values for a variable that exists; the function returned writes them."""
    key = layer._variable_keys[name]
    variable = getattr(layer, key)
    fresh = make_tensor(value, tuple(variable.shape), f"layer/{layer.name}/{name}").detach()

    def write() -> None:
        if parametrize.is_parametrized(layer, key):
            setattr(layer, key, fresh)
            return
        target = layer._parameters.get(f"{key}_orig", variable)
        with torch.no_grad():
            target.copy_(divided_as(target, fresh))
        hooks: list[Any] = list(layer._forward_pre_hooks.values())
        for hook in hooks:
            if getattr(hook, "_tensor_name", None) == key:  # what pruning masks is computed anew
                setattr(layer, key, hook.apply_mask(layer))

    return write


def divided_as(variable: Any, value: torch.Tensor) -> torch.Tensor:
    """A value divided among processes as a variable is, if FSDP2 has divided it; it is that of the first process."""
    placements = getattr(variable, "placements", None)
    if placements is None:
        return value
    # Here and not above: it takes long to import, and is there already where something is divided.
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, variable.device_mesh, placements)
