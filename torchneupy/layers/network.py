"""Networks: layers and who feeds whom, as one ``nn.Module``."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import reports, topology
from torchneupy.layers.adapters import as_layer, infer_module_shape
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.description import describe_graph, make_one_if_possible
from torchneupy.layers.draft import Draft
from torchneupy.layers.inputs import fail_unless_they_fit, in_order_of_layers, prepare
from torchneupy.layers.modes import in_mode
from torchneupy.layers.operators import BaseGraph
from torchneupy.layers.prediction import predict
from torchneupy.layers.running import (
    has_its_own_call,
    is_traced,
    nobody_watches_calls,
    run_chain,
    walk,
)
from torchneupy.layers.structure import Structure
from torchneupy.layers.tracing import is_compiled
from torchneupy.layers.variables import Connection

__all__ = ["LayerGraph"]


def variables_of(layer: Any) -> Mapping[str, torch.Tensor]:
    """The variables of a layer, or of a foreign module that has replaced one."""
    if isinstance(layer, BaseLayer):
        return layer.variables
    return {**dict(layer.named_parameters()), **dict(layer.named_buffers())}


#: How torch registers children, if nobody has put something in its place.
REGISTER_MODULE, ADD_MODULE = nn.Module.register_module, nn.Module.add_module


def add_children(network: nn.Module, children: Mapping[str, nn.Module]) -> None:
    """Register children; all at once, which is faster, where torch would do nothing more than that."""
    cls = type(network)
    plain = cls.register_module is REGISTER_MODULE and cls.add_module is ADD_MODULE
    if plain and not torch_module._global_module_registration_hooks:
        network._modules.update(children)
        return
    for key, child in children.items():
        network.register_module(key, child)


class LayerGraph(BaseGraph, Structure):
    """A network of layers, which is an ``nn.Module`` whose children are the layers.

    Made by ``>>``, ``|``, ``join`` and ``parallel``; seldom by this class itself.

    ``network(x)`` runs every layer in its own mode (``train()``, ``eval()``), with its hooks.
    ``network.output(x, training=False)`` runs the layers' arithmetic with an explicit flag, whatever their modes are,
    without hooks. Both take one argument for each input layer, in their order, or a dictionary with input layers or
    their names as keys; ``network(left=x, right=y)`` takes the names as keywords too. Arrays are converted to the
    network's dtype and device. Several outputs come as a tuple. Where a network is compiled, exported or traced, it
    takes tensors only, one by one or, unless it is traced, by keywords.

    Parameters
    ----------
    forward_graph : list of (layer, list of layers), or dict
        For each layer the layers that it feeds, in the order in which they enter the network. Defaults to ``None``,
        which is the empty network.

    Attributes
    ----------
    layers : list
        In NeuPy's topological order, which is that of iteration, of ``variables`` and of ``state_dict``.
    input_shape, output_shape : TensorShape, or list of them
        Shapes ``(batch, ...)``; a list if there are several inputs or outputs.

    Raises
    ------
    LayerConnectionError
        If layers do not fit together, or there is a cycle.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> network = Input(10) >> Relu(5, name="hidden") >> Softmax(3)
    >>> network
    (?, 10) -> [... 3 layers ...] -> (?, 3)
    >>> network["hidden"].output_shape, network.n_parameters
    (TensorShape([None, 5]), 73)
    >>> network.end("hidden")
    (?, 10) -> [... 2 layers ...] -> (?, 5)
    """

    def __init__(self, forward_graph: Any = None) -> None:
        super().__init__()
        given = list(forward_graph.items() if isinstance(forward_graph, Mapping) else forward_graph or [])
        forward = {as_layer(layer): [as_layer(target) for target in targets] for layer, targets in given}
        for targets in list(forward.values()):
            for target in targets:
                forward.setdefault(target, [])
        try:
            draft = Draft.from_forward(forward)  # type: ignore[arg-type]
        except topology.GraphHasCycleError:
            names = [layer.name for layer in forward]
            raise LayerConnectionError(f"Cannot make a network whose layers form a cycle. Layers: {names}") from None
        self._adopt(draft)

    @classmethod
    def _from_draft(cls, draft: Draft) -> Self:
        network = cls.__new__(cls)
        nn.Module.__init__(network)
        network._adopt(draft)
        return network

    def _adopt(self, draft: Draft) -> None:
        """Build the draft's layers, and take them over."""
        draft.build()
        add_children(self, draft.layers)
        is_chain = draft.is_chain()
        shapes = [draft.layers[key].input_shape for key in draft.inputs]
        # Into the dictionary itself, as in BaseLayer.
        vars(self).update(
            _forward=draft.forward,
            _sources=draft.sources,
            _shapes=draft.shapes,
            _inputs=tuple(draft.inputs),
            _outputs=tuple(draft.outputs),
            _numbers=draft.numbers,
            _in_order=draft.in_order,
            _n_edges=draft.n_edges,
            _chain=tuple(draft.sources) if is_chain else (),
            _plan=[] if is_chain else topology.plan_steps(draft.sources, draft.outputs),
            # What a value has to have: a number of dimensions, and sizes after the batch.
            _expected=[(shape.ndims, tuple(shape[1:]) if shape else ()) for shape in shapes],
        )

    # Parts

    def end(self, *output_layers: Any) -> LayerGraph:
        """The part of the network that leads to some layers, given themselves or by name. The layers are shared.

        Raises
        ------
        NameError
            If there is no layer of a name.
        ValueError
            If a layer is not in the network, or none is given.
        """
        return self._part(topology.reachable(self._sources, self._keys(output_layers)))

    def start(self, *input_layers: Any) -> LayerGraph:
        """The part of the network that some layers lead to; as :meth:`end`."""
        return self._part(topology.reachable(self._forward, self._keys(input_layers)))

    def _part(self, keys: set[str]) -> LayerGraph:
        layers = self._as_layers()
        part = topology.subgraph(self._forward, keys)
        return LayerGraph([(layers[key], [layers[target] for target in targets]) for key, targets in part.items()])

    def __getitem__(self, index: int | slice | str) -> Any:
        """A layer by its place or its name, or the part of the network between two places, which shares the layers.

        Raises
        ------
        IndexError
            If there is no such place.
        NameError
            If there is no layer of that name, or more than one.
        ValueError
            If a slice leaves out layers in between.
        """
        if isinstance(index, str):
            return self.layer(index)
        keys = list(self._sources)
        if not isinstance(index, slice):
            try:
                return self._modules[keys[index]]
            except IndexError:
                raise IndexError(f"There are {len(keys)} layers, got the index {index}. Network: {self}") from None
        if index.step not in (None, 1):
            raise ValueError(f"A part of a network cannot leave out layers, got a slice with step {index.step}")
        return self._part(set(keys[index]))

    # Shapes

    def get_output_shape(self, *input_shapes: Any) -> Any:
        """The output shape for other input shapes, one for each input layer.

        Raises
        ------
        LayerConnectionError
            If a layer cannot take what comes to it.
        """
        return self._infer(input_shapes)[0]

    def _infer(self, input_shapes: Sequence[Any]) -> tuple[Any, list[Connection]]:
        """The output shape, or a list of them, and the connections that lead to it."""
        self._fail_unless_one_each(len(input_shapes))
        connections: list[Connection] = []

        def step(key: str, *shapes: TensorShape) -> TensorShape:
            child: Any = self._modules[key]
            if not isinstance(child, BaseLayer):
                return infer_module_shape(child, shapes)
            shape, found = child._infer(*shapes)
            connections.extend(found)
            return shape

        shapes = dict(zip(self._inputs, map(TensorShape, input_shapes), strict=True))
        return make_one_if_possible(walk(self, shapes, step)), connections

    # Variables

    @property
    def variables(self) -> dict[tuple[Any, str], torch.Tensor]:
        """``(layer, name)`` to variable, each variable once, in topological order."""
        found: dict[tuple[Any, str], torch.Tensor] = {}
        seen: set[int] = set()
        self._fail_if_not_built()
        for layer in self:
            for name, variable in variables_of(layer).items():
                if id(variable) not in seen:
                    seen.add(id(variable))
                    found[layer, name] = variable
        return found

    @property
    def n_parameters(self) -> int:
        """Number of values in all variables, those that are not trained included."""
        return sum(variable.numel() for variable in self.variables.values())

    def create_variables(self) -> None:
        """Nothing to do: layers get their variables when they are connected.

        Raises
        ------
        WeightInitializationError
            If a layer could not get them, because a size is unknown.
        """
        self._fail_if_not_built()

    def _fail_if_not_built(self) -> None:
        for child in self:
            if isinstance(child, BaseLayer):
                child.fail_if_not_built()

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """As ``nn.Module.named_parameters``; warns if layers have no variables yet, which an optimizer would miss."""
        if not self.is_built:
            reports.warn_of_missing_variables(self)
        return super().named_parameters(*args, **kwargs)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As ``nn.Module.parameters``; warns as :meth:`named_parameters`, and at once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    # Computation

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run every layer in its own mode, with its hooks."""
        # Under torch.fx the inputs are a stand-in that can only be indexed.
        if type(inputs) is tuple and named:
            inputs = in_order_of_layers(self, inputs, named)
        checked = type(inputs) is tuple and not is_traced()
        if checked:
            inputs = prepare(self, inputs)
        elif type(inputs) is tuple:
            self._fail_unless_one_each(len(inputs))
            if is_compiled():
                fail_unless_they_fit(self, inputs)
        watched = not (checked and nobody_watches_calls())
        if self._chain:
            return run_chain(self, inputs[0], watched)
        self._fail_if_empty()

        def step(key: str, *found: Any) -> Any:
            child: Any = self._modules[key]
            if watched or has_its_own_call(child):
                return child(*found)
            return child.forward(*found)

        outputs = walk(self, {key: inputs[index] for index, key in enumerate(self._inputs)}, step)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def output(self, *inputs: Any, training: bool = False, **kwargs: Any) -> Any:
        """Run the layers' arithmetic with an explicit flag, whatever modes they are in, and without their hooks.

        Parameters
        ----------
        *inputs : tensor or array-like
            One for each input layer; or one dictionary with input layers or their names as keys.
        training : bool
            Given to every layer whose ``output`` takes it; a foreign ``nn.Module`` is put into that mode meanwhile.
            Defaults to ``False``.
        **kwargs
            Given to every layer. A layer whose ``output`` names its arguments raises TypeError for others; the
            library's layers without a training mode ignore them, as NeuPy's do.

        Returns
        -------
        tensor, or tuple of tensors
        """
        if type(inputs) is tuple and not torch.compiler.is_compiling():
            inputs = prepare(self, inputs)
        elif type(inputs) is tuple:
            self._fail_unless_one_each(len(inputs))
            if is_compiled():
                fail_unless_they_fit(self, inputs)
        self._fail_if_empty()

        def step(key: str, *found: Any) -> Any:
            child: Any = self._modules[key]
            if not isinstance(child, BaseLayer):
                if kwargs:
                    raise TypeError(f"{type(child).__name__} takes no keyword arguments, got {', '.join(kwargs)}")
                with in_mode(child, training):
                    return child(*found)
            if child._takes_training:
                return child.output(*found, training=training, **kwargs)
            return child.output(*found, **kwargs)

        outputs = walk(self, {key: inputs[index] for index, key in enumerate(self._inputs)}, step)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def predict(self, *inputs: Any, batch_size: int | None = None, verbose: bool = True, **kwargs: Any) -> Any:
        """Outputs for many samples, in evaluation mode and without gradients.

        The network is put into evaluation mode meanwhile. From several threads, call ``eval()`` first: else the thread
        that ends first puts the network back into training mode under the others.

        Parameters
        ----------
        *inputs : array-like or tensor
            ``(samples, ...)``, one for each input layer; or one dictionary with input layers or their names as keys.
        batch_size : int or None
            How many samples to compute at a time. Defaults to ``None``, which is all at once.
        verbose : bool
            Show a progress bar if there is more than one batch. Defaults to ``True``.

        Returns
        -------
        ndarray, or tuple of ndarrays if there are several outputs

        Raises
        ------
        ValueError
            If the number of inputs, their shapes, their numbers of samples, or the batch size do not fit.
        TypeError
            If there is an argument that is not known.
        """
        if kwargs:
            raise TypeError(f"Unknown arguments: {kwargs}")
        return predict(self, in_order_of_layers(self, inputs), batch_size, verbose)

    # Copies and text

    def _lost_when_flattened(self) -> list[str]:
        """What hangs on this network itself, and would not run where only its layers take part."""
        values = vars(self)
        hooks = any(values[name] for name in values if name.endswith("_hooks"))
        parts = {
            "hooks": hooks,
            "compiled call": values.get("_compiled_call_impl") is not None,
            "forward": "forward" in values,
            "class": type(self) is not LayerGraph,
            "parameters or buffers": bool(self._parameters or self._buffers),
            "other modules": len(self._modules) > len(self._sources),
        }
        return [part for part, lost in parts.items() if lost]

    def _copy_under_new_names(self) -> LayerGraph:
        twin = copy.deepcopy(self)
        for child in twin:
            if isinstance(child, BaseLayer):
                child._take_name()
        return LayerGraph(twin.forward_graph)

    def __copy__(self) -> Self:
        """A network of its own that shares the layers."""
        twin = type(self).__new__(type(self))
        vars(twin).update({k: v.copy() if isinstance(v, (dict, list, set)) else v for k, v in vars(self).items()})
        return twin

    def get_params(self, deep: bool = False) -> dict[str, Any]:
        return {"forward_graph": self.forward_graph}

    def show(self, filepath: str | None = None, view: bool = False) -> str:
        """Draw the network; see :func:`torchneupy.layers.reports.show`."""
        return reports.show(self, filepath, view)

    def summary(self) -> reports.Summary:
        """A table of the layers, their classes, output shapes and numbers of parameters."""
        return reports.summary(self)

    def __repr__(self) -> str:
        return describe_graph(self.input_shapes, len(self), [self._shapes[key] for key in self._outputs])
