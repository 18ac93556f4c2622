"""A network at work, as the checks need it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchneupy.core.shape import Dimension, TensorShape
from torchneupy.layers import Input, LayerGraph, join, parallel
from torchneupy.testing.inputs import largest_index
from torchneupy.testing.randomness import seeded

__all__ = [
    "Prepare",
    "Subject",
    "all_tensors",
    "as_tuple",
    "call",
    "connect",
    "copied_state",
    "declared_shapes",
    "named_tensors",
]

#: What stands for sizes that may be any, twice, by axis; different from each other, so that none is taken for another.
OPEN_SIZES = ((5, 6, 7), (9, 8, 10))
#: By how much those are larger where a network cannot take them: the first that will do.
LARGER = (0, 4, 16, 48, 144)


#: Makes what is fed of normal numbers, for all inputs or each.
Prepare: TypeAlias = (
    Callable[[torch.Tensor], torch.Tensor] | Sequence[Callable[[torch.Tensor], torch.Tensor] | None] | None
)


def connect(layer: Any, shapes: Sequence[Any]) -> LayerGraph:
    """A layer behind an Input for each shape of a sample."""
    return join(parallel(*map(Input, shapes)), layer)


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    """Outputs one by one, be it one or several."""
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def copied_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """A state_dict of its own memory."""
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


@contextmanager
def seeded_elsewhere(seed: int) -> Iterator[None]:
    """Random numbers of Python and of numpy from a seed, as layers may draw from there as well."""
    legacy: Any = np.random.mtrand  # whose one generator is that of `np.random.randn`
    states = random.getstate(), legacy.get_state()
    random.seed(seed)
    legacy.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        legacy.set_state(states[1])


def with_own_memory(module: LayerGraph) -> LayerGraph:
    """The network, whose parameters and buffers get memory of their own: what a user made them of stays as it is."""
    for _, parameter in nn.Module.named_parameters(module):  # not the network's, which warns of missing variables
        if not is_lazy(parameter):
            parameter.data = parameter.data.clone()
    # A buffer is the very tensor that was given, which others may have, too.
    copies = {id(buffer): buffer.clone() for buffer in module.buffers() if not is_lazy(buffer)}
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False, remove_duplicate=False):
            part._buffers[name] = copies.get(id(buffer), buffer)
    return module


def perturb(module: nn.Module, seed: int) -> None:
    """Move all that is trained by a tenth, so that no two values are equal; none changes its sign."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point() and not is_lazy(parameter):
                moves = torch.randn(parameter.shape, generator=generator).to(parameter) / 10
                parameter.copy_(torch.where(parameter == 0, moves, parameter * (1 + moves)))


class Subject:
    """What is checked: a network, how another one like it is made, and inputs for it.

    Parameters
    ----------
    make : callable
        Gives a new network.
    seed : int
        For initial values and inputs.
    make_layer : callable or None
        Gives a new layer, the network's last, where only a layer is checked.
    prepare : callable, sequence or None
        Makes what is fed of normal numbers.

    Attributes
    ----------
    network : LayerGraph
        On the CPU and of float32.
    inputs : tuple of Tensor
    """

    def __init__(
        self,
        make: Callable[[], LayerGraph],
        seed: int = 0,
        make_layer: Callable[[], Any] | None = None,
        prepare: Prepare = None,
    ) -> None:
        self.make = make
        self.seed = seed
        self.make_layer = make_layer
        self.prepare = prepare
        self.network = self.again()
        self.shapes = [tuple(shape[1:]) for shape in self.network.input_shapes]
        self.larger = 0
        if any(None in shape for shape in self.shapes):
            self.larger = next(filter(self.can_run, LARGER), 0)
        self.inputs = self.draw(batch=3)

    def can_run(self, larger: int) -> bool:
        """Whether the network takes inputs whose open sizes are larger by a number."""
        self.larger = larger
        try:
            for trial in self.trials:
                self.run(self.again(), self.draw(2, trial))
        except Exception:  # noqa: BLE001  # whatever it is, the first size will show it
            return False
        return True

    def new(self) -> Subject:
        """The same subject before anything was done with it."""
        return Subject(self.make, self.seed, self.make_layer, self.prepare)

    def fresh(self, seed: int) -> LayerGraph:
        with seeded(seed), seeded_elsewhere(seed):
            return with_own_memory(self.make())

    def again(self) -> LayerGraph:
        """The same network anew, with the same values."""
        network = self.fresh(self.seed)
        perturb(network, self.seed)
        return network

    def behind(self, shapes: Sequence[Any]) -> LayerGraph:
        """A new layer behind inputs of other shapes; only where a layer is checked."""
        assert self.make_layer is not None
        with seeded(self.seed), seeded_elsewhere(self.seed):
            return with_own_memory(connect(self.make_layer(), shapes))

    @property
    def checked(self) -> Any:
        """The layer, or the network."""
        return self.network if self.make_layer is None else self.network.output_layers[0]

    def sizes(self, trial: int = 0) -> list[tuple[int, ...]]:
        """The sizes of a sample for each input; those that may be any differ from one trial to the other."""
        stand_ins = OPEN_SIZES[trial]
        return [
            tuple(stand_ins[axis % 3] + self.larger if size is None else size for axis, size in enumerate(shape))
            for shape in self.shapes
        ]

    @property
    def trials(self) -> range:
        """Numbers for ``sizes`` that give different ones."""
        return range(2 if any(None in shape for shape in self.shapes) else 1)

    def draw(self, batch: int, trial: int = 0) -> tuple[torch.Tensor, ...]:
        """Inputs: numbers with a normal distribution, prepared, or whole ones where a layer takes indices."""
        generator = torch.Generator().manual_seed(self.seed + batch)
        sizes = dict(zip(self.network.input_layers, self.sizes(trial), strict=True))
        for_all = None if isinstance(self.prepare, Sequence) else self.prepare
        each = self.prepare if isinstance(self.prepare, Sequence) else [None] * len(sizes)
        found = []
        for layer, own in zip(sizes, each, strict=True):
            shape = (batch, *sizes[layer])
            largest = largest_index(self.network, layer, sizes) if own is None else None
            if largest is not None:
                found.append(torch.randint(largest + 1, shape, generator=generator))
                continue
            prepare = own or for_all
            numbers = torch.randn(shape, generator=generator)
            prepared: Any = numbers if prepare is None else prepare(numbers)
            if not isinstance(prepared, torch.Tensor) or prepared.shape != shape:
                raise ValueError(f"`prepare` should give a tensor of the shape that it gets, {shape}, got {prepared!r}")
            found.append(prepared)
        return tuple(found)

    def run(
        self, network: Any = None, inputs: Sequence[torch.Tensor] | None = None, training: bool = False, seed: int = 0
    ) -> tuple[Any, ...]:
        """Outputs of a call in a mode, for copies of the inputs; the network stays in that mode."""
        fed = [x.clone() for x in (self.inputs if inputs is None else inputs)]
        return call((self.network if network is None else network).train(training), fed, seed)


def call(
    function: Callable[..., Any], inputs: Sequence[torch.Tensor], seed: int = 0, **options: Any
) -> tuple[Any, ...]:
    """Outputs of a function, with random numbers from a seed."""
    with seeded(seed), seeded_elsewhere(seed):
        return as_tuple(function(*inputs, **options))


def declared_shapes(checked: Any, input_shapes: Sequence[Sequence[Dimension] | None]) -> tuple[TensorShape, ...]:
    """The output shapes that a layer or network declares, one by one, for shapes with the batch."""
    found = checked.get_output_shape(*map(TensorShape, input_shapes))
    return tuple(map(TensorShape, found)) if isinstance(found, list) else (TensorShape(found),)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that are attributes of a module or its parts, but neither parameters nor buffers."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                yield f"{path}.{name}".lstrip("."), value


def all_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, buffers, and tensors that are neither."""
    # Not a network's own method, which warns of variables that are not there yet.
    parameters = nn.Module.named_parameters(module)
    return itertools.chain(parameters, module.named_buffers(), named_tensors(module))
