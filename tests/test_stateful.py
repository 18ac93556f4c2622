"""Networks that are composed, cut, copied, trained, saved and spoilt in random order, beside a model of what they are.

The model knows, for each network, which layer feeds which and what sizes come in, and for each tensor its values. After
every step all networks are compared with it.
"""

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import nn
from torch.testing import assert_close

from tests.strategies import (
    Drawing,
    Forward,
    Leaf,
    Row,
    Sizes,
    build_tree,
    connections_of,
    inputs_of,
    leaves_of,
    outputs_of,
    seeds,
    share,
    sources_of,
    sweep,
    total,
    unite,
)
from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers import BaseLayer, Concatenate, Elementwise, Identity, Input, LayerGraph, Tanh, join, repeat
from torchneupy.layers.adapters import ModuleLayer
from torchneupy.layers.naming import reset_names
from torchneupy.testing.subject import as_tuple, copied_state

#: Width of what comes out of networks and goes into them, unless they were cut.
WIDTH = 3

N_NETWORKS = 5
N_LAYERS = 40


class Wrapper(nn.Module):
    """What other libraries put in a layer's place; it counts its calls."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls = 0

    def forward(self, *inputs: Any) -> Any:
        self.calls += 1
        return self.inner(*inputs)


def as_node(module: Any) -> Any:
    """What the model calls a child of a network: the wrapper itself, whether or not a network has adapted it."""
    return module.module if isinstance(module, ModuleLayer) else module


def core(module: Any) -> Any:
    """The layer inside of wrappers."""
    while isinstance(module, (Wrapper, ModuleLayer)):
        module = module.inner if isinstance(module, Wrapper) else module.module
    return module


@dataclass(eq=False)
class Model:
    """What is known of a network.

    Attributes
    ----------
    network : LayerGraph
    forward : dict
        Which nodes each node feeds.
    begins : dict
        The nodes at which it begins, and the sizes of one sample that goes in there.
    keys : dict
        The node's key.
    shapes : dict
        The declared output shape of each node.
    """

    network: Any
    forward: Forward[Any]
    begins: dict[Any, Sizes]
    keys: dict[Any, str]
    shapes: dict[Any, TensorShape]

    @property
    def nodes(self) -> list[Any]:
        return list(self.forward)


def renamed(found: dict[Any, Any], new_of: dict[Any, Any]) -> dict[Any, Any]:
    """A dictionary with other nodes as keys, and in lists of nodes."""
    return {
        new_of.get(node, node): [new_of.get(n, n) for n in value] if isinstance(value, list) else value
        for node, value in found.items()
    }


@st.composite
def rows(draw: Any, closed: bool) -> Row:
    """Layers and blocks in a row, from the common width to the common width."""
    drawing = Drawing(draw)
    first = [drawing.beginning((WIDTH,))] if closed else []
    row, sizes = drawing.row((WIDTH,), 1, 2)
    last = [] if sizes == (WIDTH,) else [drawing.activation(sizes, n_units=WIDTH)]
    return Row((*first, *row.parts, *last))


def pieces(closed: bool) -> st.SearchStrategy[Row]:
    """Rows whose values stay of one size, however many of them are joined."""
    return rows(closed).filter(
        lambda row: all(leaf.options.get("merge_function") != "multiply" for leaf in leaves_of(row).values())
    )


CUTS = ["start", "end", "slice"]

places = st.integers(0, 2**8)  # taken modulo what there is


class Networks(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        reset_names()
        self.dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        self.models: list[Model] = []
        self.saved: list[dict[str, torch.Tensor]] = []
        # Of layers: what they were made from, the sizes of what they get, their reprs, and their tensors once they
        # have them.
        self.leaf_of: dict[Any, Leaf] = {}
        self.sizes_of: dict[Any, set[Sizes]] = {}
        self.text_of: dict[Any, str] = {}
        self.tensors_of: dict[Any, dict[str, torch.Tensor]] = {}
        self.value_of: dict[torch.Tensor, torch.Tensor] = {}
        self.name_of: dict[Any, str] = {}
        self.mode_of: dict[Any, bool] = {}

    def teardown(self) -> None:
        torch.set_default_dtype(self.dtype)

    # What the model tells

    def sizes_behind(self, forward: Forward[Any], begins: dict[Any, Sizes]) -> dict[Any, Sizes]:
        """Sizes of one sample of what comes out of each node."""
        found: dict[Any, Sizes] = {}
        for node in sweep(forward):
            sources = [found[source] for source in sources_of(forward, node)] or [begins[node]]
            shape = self.leaf_of[core(node)].shape(*[(None, *sizes) for sizes in sources])
            assert shape is not None
            found[node] = tuple(size for size in shape[1:] if size is not None)
        return found

    def sizes_before(self, forward: Forward[Any], begins: dict[Any, Sizes]) -> dict[Any, list[Sizes]]:
        """Sizes of one sample of what comes into each node."""
        behind = self.sizes_behind(forward, begins)
        return {node: [behind[source] for source in sources_of(forward, node)] or [begins[node]] for node in forward}

    def kind(self, node: Any) -> str:
        return self.leaf_of[core(node)].kind

    def judge(self, forward: Forward[Any], begins: dict[Any, Sizes]) -> str:
        """Whether a graph is a good one, has to be refused, or is one of which the model cannot tell."""
        if len(sweep(forward)) < len(forward):
            return "bad"
        unclear = False
        for node in forward:
            count = len(sources_of(forward, node))
            if not {"Concatenate": True, "Elementwise": count > 1}.get(self.kind(node), count < 2):
                if not isinstance(node, Wrapper):  # of which the library cannot know how many inputs it takes
                    return "bad"
                unclear = True
        if unclear:
            return "unclear"
        before = self.sizes_before(forward, begins)
        known = all(
            self.kind(node) == "Concatenate" or set(sizes) == self.sizes_of[core(node)]
            for node, sizes in before.items()
        )
        return "good" if known else "unclear"

    def is_built(self, node: Any) -> bool:
        return core(node) in self.tensors_of or not self.makes_variables(core(node))

    def makes_variables(self, layer: Any) -> bool:
        leaf = self.leaf_of[layer]
        return leaf.kind == "PRelu" or leaf.options.get("n_units") is not None

    def pick(self, place: int) -> Model:
        return self.models[place % len(self.models)]

    def pick_node(self, model: Model, place: int) -> Any:
        return model.nodes[place % len(model.nodes)]

    def inputs(self, model: Model, seed: int = 0) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(2, *model.begins[node], generator=generator) for node in inputs_of(model.forward)]

    # What the model learns

    def meet(self, layer: Any, leaf: Leaf, sizes: set[Sizes]) -> None:
        self.leaf_of[layer], self.sizes_of[layer], self.text_of[layer] = leaf, sizes, repr(layer)

    def add(self, network: Any, forward: Forward[Any], begins: dict[Any, Sizes]) -> None:
        """Remember a new network, which has to have the connections that the model expects."""
        self.models = self.models[-N_NETWORKS + 1 :]
        keys = {as_node(child): key for key, child in network.named_children()}
        shapes = {as_node(child): shape for child, shape in network.output_shapes_per_layer.items()}
        begins = {node: begins[node] for node in inputs_of(forward)}
        self.models.append(Model(network, forward, begins, keys, shapes))
        self.learn()

    def learn(self) -> None:
        """Remember names, modes and variables that are new."""
        for model in self.models:
            for module in model.network.modules():
                self.mode_of.setdefault(module, module.training)
                if isinstance(module, BaseLayer):
                    self.name_of.setdefault(module, module.name)
            for layer in map(core, model.nodes):
                if layer not in self.tensors_of and layer.is_built and self.makes_variables(layer):
                    self.tensors_of[layer] = dict(layer.variables)
                    self.value_of.update((tensor, tensor.detach().clone()) for tensor in layer.variables.values())

    def attempt(self, compose: Callable[[], Any], forward: Forward[Any], begins: dict[Any, Sizes]) -> None:
        """Compose what is good, and see that what is bad is refused."""
        verdict = self.judge(forward, begins)
        if verdict == "good":
            self.add(compose(), forward, begins)
        if verdict == "bad":
            state = torch.get_rng_state()
            with pytest.raises(LayerConnectionError, match=r"cycle|takes 1 input\(s\), got|expected multiple inputs"):
                compose()
            assert torch.equal(torch.get_rng_state(), state)

    # Composing

    @initialize(first=pieces(closed=True), second=pieces(closed=False), seed=seeds)
    def begin_with_two(self, first: Row, second: Row, seed: int) -> None:
        self.begin(first, seed)
        self.begin(second, seed)

    @rule(row=st.booleans().flatmap(pieces), seed=seeds)
    def begin(self, row: Row, seed: int) -> None:
        made: dict[int, Any] = {}
        torch.manual_seed(seed)
        network = build_tree(row, made)
        forward = renamed(connections_of(row), made)
        begins: dict[Any, Sizes] = dict.fromkeys(inputs_of(forward), (WIDTH,))
        self.leaf_of.update((made[number], leaf) for number, leaf in leaves_of(row).items())
        before = self.sizes_before(forward, begins)
        for layer in forward:
            self.meet(layer, self.leaf_of[layer], set(before[layer]))
        self.add(network, forward, begins)

    @rule(left=places, right=places, connect=st.booleans(), seed=seeds)
    def compose_two(self, left: int, right: int, connect: bool, seed: int) -> None:
        one, two = self.pick(left), self.pick(right)
        if len(one.nodes) + len(two.nodes) > N_LAYERS:
            return
        torch.manual_seed(seed)
        if connect and len(outputs_of(one.forward)) > 1 and len(inputs_of(two.forward)) > 1:
            with pytest.raises(LayerConnectionError, match=f"many to many.*{self.texts(two.network.input_layers)[0]}"):
                one.network >> two.network
            return
        forward = unite(one.forward, two.forward, connect)
        self.attempt(
            lambda: one.network >> two.network if connect else one.network | two.network,
            forward,
            two.begins | one.begins,
        )

    @rule(data=st.data(), seed=seeds)
    def gather(self, data: Any, seed: int) -> None:
        """Put a merging layer behind several outputs, and something of the common width behind that."""
        model = next((model for model in self.models if len(outputs_of(model.forward)) > 1), None)
        if model is None:
            return
        behind = self.sizes_behind(model.forward, model.begins)
        found = [behind[node] for node in outputs_of(model.forward)]
        width = sum(sizes[0] for sizes in found)
        torch.manual_seed(seed)
        last = Tanh(WIDTH)
        self.meet(last, Leaf(0, "Tanh", {"n_units": WIDTH}), {(width,)})
        if len(set(found)) == 1 and data.draw(st.booleans()):
            merging: Any = Elementwise()
            self.meet(merging, Leaf(0, "Elementwise"), set(found))
            self.sizes_of[last] = set(found)
        else:
            merging = Concatenate()
            self.meet(merging, Leaf(0, "Concatenate"), set(found))
        forward = unite(unite(model.forward, {merging: []}, connect=True), {last: []}, connect=True)
        self.attempt(lambda: join(model.network, merging, last), forward, model.begins)

    @rule(place=places, seed=seeds)
    def repeat_network(self, place: int, seed: int) -> None:
        model = self.pick(place)
        if 2 * len(model.nodes) > N_LAYERS:
            return
        torch.manual_seed(seed)
        first, last = inputs_of(model.forward), outputs_of(model.forward)
        if len(first) > 1 or len(last) > 1:
            with pytest.raises(LayerConnectionError, match=r"several inputs or outputs.*Network: .*layers"):
                repeat(model.network, 2)
            return
        if model.begins[first[0]] != self.sizes_behind(model.forward, model.begins)[last[0]]:
            return
        network = repeat(model.network, 2)
        copies = [as_node(child) for child in network.forward_graph][len(model.nodes) :]
        new_of = self.meet_copies(model.nodes, copies)
        self.add(network, unite(model.forward, renamed(model.forward, new_of), connect=True), model.begins)

    def meet_copies(self, nodes: list[Any], copies: list[Any]) -> dict[Any, Any]:
        for old, new in zip(map(core, nodes), map(core, copies), strict=True):
            assert type(old) is type(new) and old is not new
            self.meet(new, self.leaf_of[old], self.sizes_of[old])
            for name, tensor in self.tensors_of.get(old, {}).items():
                assert torch.equal(new.variables[name], tensor)
                assert new.variables[name].data_ptr() != tensor.data_ptr() or tensor.numel() == 0
        return dict(zip(nodes, copies, strict=True))

    # Cutting and copying

    @rule(place=places, first=places, second=places, how=st.sampled_from(CUTS), by_name=st.booleans())
    def cut(self, place: int, first: int, second: int, how: str, by_name: bool) -> None:
        model = self.pick(place)
        network, order = model.network, sweep(model.forward)
        first, second = sorted((first % len(order), second % len(order)))
        names = [self.name(model, child) for child in network]
        chosen: Any = network[first]
        if by_name and names.count(names[first]) == 1:
            chosen = names[first]
        kept = {order[first]}
        if how == "slice":
            kept = {*order[first : second + 1]}
        for node in order if how == "start" else order[::-1]:
            sources = sources_of(model.forward, node)
            if how == "start" and kept & {*sources}:
                kept.add(node)
            if how == "end" and kept & {*model.forward[node]}:
                kept.add(node)
        forward = {node: [t for t in targets if t in kept] for node, targets in model.forward.items() if node in kept}
        before, behind = self.sizes_before(model.forward, model.begins), self.sizes_behind(model.forward, model.begins)
        begins = {
            node: model.begins.get(node, behind[node] if self.kind(node) == "Concatenate" else before[node][0])
            for node in inputs_of(forward)
        }
        parts = {
            "start": lambda: network.start(chosen),
            "end": lambda: network.end(chosen),
            "slice": lambda: network[first : second + 1],
        }
        self.attempt(parts[how], forward, begins)

    @rule(place=places)
    def copy_network(self, place: int) -> None:
        model = self.pick(place)
        self.add(copy.copy(model.network), dict(model.forward), model.begins)
        assert self.models[-1].keys == model.keys

    @rule(place=places, make_copy=st.sampled_from([copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))]))
    def copy_everything(self, place: int, make_copy: Callable[[Any], Any]) -> None:
        model = self.pick(place)
        twin = make_copy(model.network)
        new_of = self.meet_copies(model.nodes, [as_node(child) for child in twin.forward_graph])
        self.add(twin, renamed(model.forward, new_of), renamed(model.begins, new_of))
        assert [module.training for module in twin.modules()] == [m.training for m in model.network.modules()]
        assert self.models[-1].keys == renamed(model.keys, new_of)
        assert [self.name(self.models[-1], child) for child in twin] == [self.name(model, c) for c in model.network]

    # Changing

    @rule(place=places, seed=seeds)
    def train_a_step(self, place: int, seed: int) -> None:
        model = self.pick(place)
        if not all(map(self.is_built, model.nodes)):
            return
        parameters = list(model.network.parameters())
        if not parameters:
            return
        torch.manual_seed(seed)
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        total(as_tuple(model.network(*self.inputs(model, seed)))).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
        optimizer.step()
        for parameter in parameters:
            assert parameter.grad is not None
            self.value_of[parameter].add_(parameter.grad, alpha=-0.1)
            parameter.grad = None

    @rule(place=places, training=st.booleans(), node=st.none() | places)
    def change_mode(self, place: int, training: bool, node: int | None) -> None:
        """Of a network, or of one layer."""
        model = self.pick(place)
        part = model.network if node is None else model.network[node % len(model.nodes)]
        part.train(training)
        self.mode_of.update(dict.fromkeys(part.modules(), training))

    @rule(place=places, node=places, name=st.sampled_from(["x", "relu-1", "tanh-2", "train", "a.b"]))
    def rename(self, place: int, node: int, name: str) -> None:
        child = core(self.pick_node(self.pick(place), node))
        child.name = self.name_of[child] = name
        self.text_of[child] = repr(child)
        assert f"name={name!r}" in self.text_of[child]

    @rule(place=places, node=places)
    def wrap(self, place: int, node: int) -> None:
        model = self.pick(place)
        old = self.pick_node(model, node)
        if not self.is_built(old):  # a foreign module does not say that something is missing in it
            return
        new = Wrapper(model.network.get_submodule(model.keys[old]))
        model.network.set_submodule(model.keys[old], new)
        for name in ("forward", "begins", "keys", "shapes"):
            setattr(model, name, renamed(getattr(model, name), {old: new}))
        self.learn()

    # Saving

    @rule(place=places)
    def save(self, place: int) -> None:
        self.saved = [*self.saved[-3:], copied_state(self.pick(place).network)]

    @rule(place=places, which=places)
    def load(self, place: int, which: int) -> None:
        if not self.saved:
            return
        state = self.saved[which % len(self.saved)]
        shapes = [(key, value.shape) for key, value in state.items()]
        fitting = [m for m in self.models if [(k, v.shape) for k, v in m.network.state_dict().items()] == shapes]
        if not fitting:
            return
        network = fitting[place % len(fitting)].network
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        network.load_state_dict(torch.load(file, weights_only=True))
        for key, tensor in network.state_dict(keep_vars=True).items():
            self.value_of[tensor] = state[key].clone()

    # Looking

    @rule(place=places, what=st.sampled_from(["texts", "parameters", "options", "predictions", "shapes"]))
    def look(self, place: int, what: str) -> None:
        model = self.pick(place)
        network, built = model.network, all(map(self.is_built, model.nodes))
        if what == "texts":
            assert f"... {len(model.nodes)} layers ..." in repr(network)
            assert len(str(network.summary()).splitlines()) == len(model.nodes) + 4
        elif what == "parameters" and not built:
            with pytest.warns(UserWarning, match="have no variables yet"):
                network.parameters()
        elif what == "parameters":
            assert network.n_parameters == sum(tensor.numel() for tensor in self.tensors(model))
        elif what == "options":
            assert [len(layer.get_params()) for layer in map(core, model.nodes)]
            assert list(network.get_params()["forward_graph"]) == list(network.forward_graph)
        elif what == "predictions" and built:
            predicted = network.predict(*[value.numpy() for value in self.inputs(model)], verbose=False)
            assert_close([torch.as_tensor(part) for part in as_tuple(predicted)], self.by_hand(model)[0])
        elif what == "shapes":
            shapes = [TensorShape((2, *model.begins[node])) for node in inputs_of(model.forward)]
            found = network.get_output_shape(*shapes)
            found = found if isinstance(found, list) else [found]
            behind = self.sizes_behind(model.forward, model.begins)
            for shape, node in zip(found, outputs_of(model.forward), strict=True):
                assert shape.is_compatible_with((2, *behind[node]))

    # Failing

    @rule(place=places, node=places, data=st.data())
    def fail(self, place: int, node: int, data: Any) -> None:
        """What is refused changes nothing, as the invariants will see."""
        model = self.pick(place)
        network = model.network
        child = network[node % len(model.nodes)]
        stranger = Identity(name="stranger")
        self.name_of[stranger] = "stranger"
        state = copied_state(network)
        count = len(inputs_of(model.forward))
        wide = torch.zeros(2, 77)
        spoilt: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
            "name": (NameError, "layer with name 'nobody'", lambda: network.layer("nobody")),
            "name to cut at": (NameError, "layer with name 'nobody'", lambda: network.start("nobody")),
            "no layer to cut at": (ValueError, "at least one layer", network.end),
            "foreign layer": (ValueError, "`stranger` is not used", lambda: network.end(child, stranger)),
            "place": (IndexError, f"got the index {len(model.nodes)}", lambda: network[len(model.nodes)]),
            "step": (ValueError, "step 2", lambda: network[::2]),
            "operand": (TypeError, "got 5 of the type int", lambda: join(network, 5)),
            "number of inputs": (ValueError, f"{count + 1} inputs", lambda: network(*[wide] * (count + 1))),
            "copies": (ValueError, "got 0", lambda: repeat(network, 0)),
            "shapes": (ValueError, f"{count + 1} inputs", lambda: network.get_output_shape(*[(2, 3)] * (count + 1))),
            "option": (ValueError, "invalid properties: colour", lambda: core(child).set_params(colour=1, name="no")),
            "name of a layer": (TypeError, "got 5", lambda: core(child).set_params(name=5)),
            "key": (RuntimeError, "Unexpected key.*nobody", lambda: network.load_state_dict({**state, "nobody": wide})),
        }
        first = network.input_layers[0]
        if isinstance(first, Input) and None not in first.shape and count == 1:
            words = rf"\(2, 77\) to the input layer `{first.name}`"
            spoilt["width of an input"] = (ValueError, words, lambda: network(wide))
            spoilt["width of a layer"] = (
                LayerConnectionError,
                f"`input-77`.*`{first.name}`",
                lambda: Input(77, name="input-77") >> network,
            )
        error, words, do = spoilt[data.draw(st.sampled_from(list(spoilt)))]
        random = torch.get_rng_state()
        with pytest.raises(error, match=words):
            do()
        assert torch.equal(torch.get_rng_state(), random)

    # What has to be true after each step

    def texts(self, children: list[Any]) -> list[str]:
        return [self.name_of.get(child, "") for child in children]

    def name(self, model: Model, child: Any) -> str:
        """A foreign module has no name, so it is found by its key."""
        return self.name_of[child] if isinstance(child, BaseLayer) else model.keys[child]

    def tensors(self, model: Model) -> list[torch.Tensor]:
        """All tensors of a network, each once."""
        layers = dict.fromkeys(core(node) for node in sweep(model.forward))
        return list(
            dict.fromkeys(tensor for layer in layers for tensor in self.tensors_of.get(layer, {}).values()).keys()
        )

    def by_hand(self, model: Model) -> tuple[list[torch.Tensor], dict[Any, torch.Tensor]]:
        """What comes out of a network in evaluation, and the value of each node."""
        given = dict(zip(inputs_of(model.forward), self.inputs(model), strict=True))
        found: dict[Any, torch.Tensor] = {}
        with torch.no_grad():
            for node in sweep(model.forward):
                sources = [found[source] for source in sources_of(model.forward, node)] or [given[node]]
                found[node] = self.leaf_of[core(node)].compute(core(node), *sources)
        return [found[node] for node in outputs_of(model.forward)], found

    @invariant()
    def layers_are_as_expected(self) -> None:
        for model in self.models:
            for layer in map(core, model.nodes):
                assert layer.name == self.name_of[layer]
                assert repr(layer) == self.text_of[layer]
                assert layer.is_built == self.is_built(layer)
                variables, expected = layer.variables, self.tensors_of.get(layer, {})
                assert list(variables) == list(expected)
                assert all(variables[name] is tensor for name, tensor in expected.items())
            for module in model.network.modules():
                assert module.training == self.mode_of[module]
            for tensor in self.tensors(model):
                assert torch.equal(tensor, self.value_of[tensor])
                assert tensor.grad is None

    @invariant()
    def connections_are_as_expected(self) -> None:
        for model in self.models:
            network, forward = model.network, model.forward
            order = sweep(forward)
            assert [as_node(child) for child in network] == order
            found = [(as_node(child), list(map(as_node, ts))) for child, ts in network.forward_graph.items()]
            assert found == list(forward.items())
            for child, sources in network.backward_graph.items():
                assert list(map(as_node, sources)) == sources_of(forward, as_node(child))
            assert list(map(as_node, network.input_layers)) == inputs_of(forward)
            assert list(map(as_node, network.output_layers)) == outputs_of(forward)
            assert len(network) == len(forward)
            assert all(child in network for child in network)

    @invariant()
    def names_and_keys_are_as_expected(self) -> None:
        for model in self.models:
            network = model.network
            assert [(key, as_node(child)) for key, child in network.named_children()] == [
                (model.keys[node], node) for node in sweep(model.forward)
            ]
            assert len(set(model.keys.values())) == len(model.keys)
            for key in model.keys.values():
                LayerGraph().add_module(key, nn.Identity())  # raises if nn.Module refuses the key
                assert not hasattr(LayerGraph, key)
            names = [self.name(model, child) for child in network]
            assert sorted(name for name, _ in network.layer_names_only()) == sorted(names)
            for child, name in zip(network, names, strict=True):
                if names.count(name) == 1:
                    assert network.layer(name) is network[name] is child
                else:
                    with pytest.raises(NameError, match=f"Ambiguous layer name `{name}`"):
                        network.layer(name)

    @invariant()
    def each_variable_is_there_once(self) -> None:
        for model in self.models:
            network = model.network
            missing = [node for node in model.nodes if not self.is_built(node)]
            assert network.is_built == (not missing)
            if missing:
                with pytest.raises(WeightInitializationError, match="|".join(core(node).name for node in missing)):
                    network.create_variables()
                continue
            expected = self.tensors(model)
            found = list(network.variables.values())
            assert [id(tensor) for tensor in found] == [id(tensor) for tensor in expected]
            assert [id(p) for p in network.parameters()] == [id(tensor) for tensor in expected]
            of_state = {id(tensor) for tensor in network.state_dict(keep_vars=True).values()}
            assert of_state == {id(tensor) for tensor in expected}

    @invariant()
    def shapes_and_values_are_as_expected(self) -> None:
        for model in self.models:
            network = model.network
            shapes = {as_node(child): shape for child, shape in network.output_shapes_per_layer.items()}
            assert shapes == model.shapes
            behind = self.sizes_behind(model.forward, model.begins)
            assert all(shape.is_compatible_with((None, *behind[node])) for node, shape in shapes.items())
            is_closed = all(isinstance(node, Input) and None not in node.shape for node in model.begins)
            if is_closed and not any(isinstance(node, Wrapper) for node in model.nodes):
                assert shapes == {node: (None, *sizes) for node, sizes in behind.items()}
            if not network.is_built:
                continue
            wrappers = [module for module in network.modules() if isinstance(module, Wrapper)]
            calls = [wrapper.calls for wrapper in wrappers]
            with torch.no_grad():
                outputs = as_tuple(network.output(*self.inputs(model)))
            expected, values = self.by_hand(model)
            assert_close(list(outputs), expected)
            assert all(shapes[node].is_compatible_with(value.shape) for node, value in values.items())
            assert all(wrapper.calls > before for wrapper, before in zip(wrappers, calls, strict=True))


Networks.TestCase.settings = settings(share(0.25), stateful_step_count=30)
TestNetworks = Networks.TestCase
