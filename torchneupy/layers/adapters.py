"""Any ``torch.nn.Module`` as a layer."""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from torchneupy.core.shape import ShapeLike, TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import naming
from torchneupy.layers.base import BaseLayer, Input, own_class
from torchneupy.layers.modes import in_mode
from torchneupy.layers.operators import BaseGraph
from torchneupy.layers.variables import Connection

__all__ = ["ModuleLayer", "as_layer", "infer_module_shape"]

# Sizes that stand for unknown ones, twice: what then differs in the result is unknown too. Large enough for the
# windows of convolutions; on the meta device they cost nothing.
BATCHES = (2, 3)
SIZES = ((64, 96), (67, 101), (71, 103), (73, 107), (79, 109))


def meta_copy(module: nn.Module) -> nn.Module:
    """A copy on the meta device, in evaluation mode and without the user's hooks; no storage is copied."""
    memo: dict[int, Any] = {}
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        shadow = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(shadow, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shadow
    for part in module.modules():
        for name, value in vars(part).items():
            if name.endswith("_hooks") and isinstance(value, dict):
                memo[id(value)] = type(value)()
    return copy.deepcopy(module, memo).eval()


def trial_inputs(shape: TensorShape, trial: int, dtype: torch.dtype) -> torch.Tensor:
    sizes = [BATCHES[trial] if index == 0 else SIZES[index % len(SIZES)][trial] for index in range(len(shape))]
    known = [unknown if size is None else size for size, unknown in zip(shape, sizes, strict=True)]
    return torch.zeros(known, dtype=dtype, device="meta")


def infer_module_shape(module: nn.Module, shapes: tuple[TensorShape, ...]) -> TensorShape:
    """The shape that a module gives for some input shapes, found by running it on the meta device.

    Unknown where the module cannot be run so, or gives something else than one tensor.
    """
    return try_module_shape(module, shapes)[0]


def try_module_shape(module: nn.Module, shapes: tuple[TensorShape, ...]) -> tuple[TensorShape, str | None]:
    """As :func:`infer_module_shape`, with what stood in the way."""
    if any(shape.ndims is None for shape in shapes):
        return TensorShape(None), "the shape of its input is not known"
    generator = torch.get_rng_state()
    try:
        return run_on_meta(module, shapes)
    finally:
        torch.set_rng_state(generator)


def run_on_meta(module: nn.Module, shapes: tuple[TensorShape, ...]) -> tuple[TensorShape, str | None]:
    """As :func:`try_module_shape`, for shapes of known rank; a module may draw random numbers meanwhile."""
    unknown, reason = TensorShape(None), None
    try:
        shadow = meta_copy(module)
    except Exception as error:  # noqa: BLE001  # a module may refuse to be copied in any way it likes
        return unknown, f"{type(error).__name__}: {error}"
    floats = [parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()]
    for dtype in ([*floats, torch.get_default_dtype()][0], torch.long):
        found = []
        for trial in range(len(BATCHES)):
            try:
                with torch.no_grad():
                    result = shadow(*[trial_inputs(shape, trial, dtype) for shape in shapes])
            except Exception as error:  # noqa: BLE001  # nor is it foreseeable how one fails on a dtype, or on meta
                reason = reason or f"{type(error).__name__}: {error}"
                break
            if not isinstance(result, torch.Tensor):
                return unknown, f"it gives no tensor, but a {type(result).__name__}"
            found.append(tuple(result.shape))
        if len(found) == len(BATCHES):
            first, second = found
            if len(first) != len(second):
                return unknown, "its number of dimensions depends on the sizes of the input"
            return TensorShape([a if a == b else None for a, b in zip(first, second, strict=True)]), None
    return unknown, reason


class ModuleLayer(BaseLayer):
    """A ``torch.nn.Module`` as a layer; made by :func:`as_layer`, and by the operators.

    Shapes: whatever the module takes and gives. The output shape is found by running a copy on the meta device.

    Parameters
    ----------
    module : nn.Module
    name : str or None
        As in :class:`BaseLayer`; automatic names are made of the module's class.

    Raises
    ------
    TypeError
        If it is no module.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import *
    >>> network = Input(10) >> torch.nn.Linear(10, 5) >> Relu()
    >>> network
    (?, 10) -> [... 3 layers ...] -> (?, 5)
    >>> network[1]
    ModuleLayer(Linear(in_features=10, out_features=5, bias=True), name='linear-1')
    """

    #: Why the module gave no shape, if it gave none.
    shape_unknown_because: str | None = None

    def __init__(self, module: nn.Module, name: str | None = None) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"ModuleLayer needs a torch.nn.Module, got {module!r} of the type {type(module).__name__}")
        self._class_name = own_class(module).__name__
        super().__init__(name=name)
        self.module: Any = module

    def _automatic_pattern(self) -> str:
        return naming.automatic_pattern(self._class_name)

    @property
    def variables(self) -> Mapping[str, torch.Tensor]:  # type: ignore[override]
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def get_params(self, deep: bool = False) -> dict[str, Any]:
        return {"module": self.module, **super().get_params(deep)}

    @property
    def takes_indices(self) -> bool:  # type: ignore[override]  # here it depends on the object
        leaves = (part for part in self.module.modules() if not isinstance(part, Input) and not any(part.children()))
        first = next(leaves, None)
        return isinstance(first, (nn.Embedding, nn.EmbeddingBag)) or getattr(first, "takes_indices", False) is True

    @property
    def _network(self) -> Any:
        """The module, if it is a network, whose layers know their shapes; else None."""
        return self.module if isinstance(self.module, BaseGraph) and not isinstance(self.module, BaseLayer) else None

    @property  # type: ignore[misc]  # this one cannot be assigned
    def input_shape(self) -> TensorShape:
        shape = getattr(self.module, "input_shape", None)
        return shape if isinstance(shape, TensorShape) else TensorShape(None)

    @property
    def is_built(self) -> bool:
        return all(part.is_built for part in self.module.modules() if isinstance(part, BaseLayer))

    def fail_if_not_built(self) -> None:
        for part in self.module.modules():
            if isinstance(part, BaseLayer):
                part.fail_if_not_built()

    def get_output_shape(self, *input_shapes: Any) -> ShapeLike:
        return self._infer(*map(TensorShape, input_shapes))[0]

    def _infer(self, *input_shapes: TensorShape) -> tuple[TensorShape, list[Connection]]:
        if isinstance(self.module, BaseLayer):
            return self.module._infer(*input_shapes)
        if self._network is not None:
            expected = len(self._network.input_layers)
            if len(input_shapes) != expected:
                raise LayerConnectionError(
                    f"The network in layer `{self.name}` takes {expected} input(s), got {len(input_shapes)} with "
                    f"shapes {', '.join(map(str, input_shapes))}. Layer: {self}"
                )
            shape, connections = self._network._infer(input_shapes)
            return TensorShape(None) if isinstance(shape, list) else shape, connections
        shape, self.shape_unknown_because = try_module_shape(self.module, input_shapes)
        return shape, []

    def output(self, *inputs: Any, training: bool = False) -> Any:
        with in_mode(self.module, training):
            return self.module(*inputs)

    def forward(self, *inputs: Any) -> Any:
        # The module has its own mode, which may differ from this layer's: part of it may be frozen.
        return self.module(*inputs)

    def __repr__(self) -> str:
        return f"ModuleLayer({self.module!r}, name={self.name!r})"


_layers: weakref.WeakKeyDictionary[nn.Module, weakref.ref[ModuleLayer]] = weakref.WeakKeyDictionary()


def as_layer(module: nn.Module, name: str | None = None) -> BaseLayer:
    """A module as a layer; a network becomes one layer, which keeps its hooks and its compiled call.

    A layer is given back as it is. A module that is adapted twice gives one layer, so it is one node of a network,
    unless it is to have another name.

    Parameters
    ----------
    module : nn.Module
    name : str or None
        Name of the new layer. Defaults to ``None``, which makes one of the module's class.

    Raises
    ------
    TypeError
        If it is no module.
    ValueError
        If a layer, which has a name, is to get another one.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> block = Relu(5) >> Relu(5)
    >>> Input(5) >> as_layer(block)
    (?, 5) -> [... 2 layers ...] -> (?, 5)
    """
    if isinstance(module, BaseLayer):
        if name not in (None, module.name):
            raise ValueError(f"The layer is called {module.name!r}; assign its name to change it. Layer: {module}")
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(f"Expected a torch.nn.Module, got {module!r} of the type {type(module).__name__}")
    known = _layers.get(module)
    layer = None if known is None else known()
    if layer is None or name not in (None, layer.name, layer.original_name):
        layer = ModuleLayer(module, name)
        _layers[module] = weakref.ref(layer)
    return layer
