"""Any module of torch as a layer, and networks in networks."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import (
    Concatenate,
    Identity,
    Input,
    Linear,
    ModuleLayer,
    Relu,
    Tanh,
    as_layer,
    join,
    parallel,
)

# Output shapes


class Fails(nn.Module):
    def forward(self, x):
        raise LookupError("never")


class NotOnMeta(nn.Module):
    def forward(self, x):
        return x * float(x.sum())


class WithNumpy(nn.Module):
    def forward(self, x):
        return torch.as_tensor(np.asarray(x))


class NoCopy(nn.Module):
    def __deepcopy__(self, memo):
        raise RuntimeError("there is one of me")

    def forward(self, x):
        return x


class PlainTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(3)

    def forward(self, x):
        return x * self.scale


class Rank(nn.Module):
    """Its output has a dimension more for larger batches."""

    def forward(self, x):
        return x if len(x) == 2 else x[None]


SHAPES = [
    (10, lambda: nn.Linear(10, 5), "(?, 5)"),
    ((None, 10), lambda: nn.Linear(10, 5), "(?, ?, 5)"),
    ((7, 10), lambda: nn.Linear(10, 5), "(?, 7, 5)"),
    (10, nn.ReLU, "(?, 10)"),
    ((None, None), nn.ReLU, "(?, ?, ?)"),
    ((3, 8, 9), lambda: nn.Conv2d(3, 4, 3), "(?, 4, 6, 7)"),
    ((3, None, None), lambda: nn.Conv2d(3, 4, 3), "(?, 4, ?, ?)"),
    ((3, None, 9), lambda: nn.Conv2d(3, 4, (3, 2), stride=2), "(?, 4, ?, 4)"),
    ((3, None, None), lambda: nn.AdaptiveAvgPool2d((2, 3)), "(?, 3, 2, 3)"),
    ((2, 3), nn.Flatten, "(?, 6)"),
    ((2, None), nn.Flatten, "(?, ?)"),
    ((2, 3), lambda: nn.Flatten(0), "(?,)"),
    (6, lambda: nn.Unflatten(1, (2, 3)), "(?, 2, 3)"),
    (5, lambda: nn.Embedding(10, 4), "(?, 5, 4)"),
    (None, lambda: nn.Embedding(10, 4), "(?, ?, 4)"),
    (5, lambda: nn.EmbeddingBag(10, 4), "(?, 4)"),
    (3, lambda: nn.BatchNorm1d(3), "(?, 3)"),
    ((4, 6), lambda: nn.MultiheadAttention(6, 2), "<unknown>"),
    ((5, 3), lambda: nn.LSTM(3, 4, batch_first=True), "<unknown>"),
    ((4, 6), lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), "(?, 4, 6)"),
    (10, lambda: nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)), "(?, 2)"),
    (10, nn.Sequential, "(?, 10)"),
    (10, lambda: nn.Linear(10, 5).double(), "(?, 5)"),
    (10, lambda: nn.Linear(10, 5, dtype=torch.bfloat16), "(?, 5)"),
    (10, lambda: nn.Linear(10, 5, device="meta"), "(?, 5)"),
    # Where a trial fails, whatever the reason, nothing is known, and it is no error.
    (10, Fails, "<unknown>"),
    (10, NotOnMeta, "<unknown>"),
    (10, WithNumpy, "<unknown>"),
    (10, NoCopy, "<unknown>"),
    (10, Rank, "<unknown>"),
    (10, lambda: nn.Linear(9, 5), "<unknown>"),
    (10, lambda: nn.LazyLinear(5), "<unknown>"),
]


@pytest.mark.parametrize("shape, make, text", SHAPES)
def test_output_shape(shape, make, text):
    assert str((Input(shape) >> make()).output_shape) == text


@pytest.mark.parametrize("shape, make, text", [case for case in SHAPES if "unknown" not in case[2]])
def test_declared_shapes_are_the_real_ones(shape, make, text):
    module = make()
    parameter = next(module.parameters(), torch.empty(0))
    network = Input(shape) >> module
    sizes = [9 if size is None else size for size in network.input_shape]
    dtype = torch.long if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) else parameter.dtype
    result = network(torch.ones(sizes, dtype=dtype, device=parameter.device))
    assert network.output_shape.is_compatible_with(result.shape)


def test_the_shape_is_that_of_evaluation():
    class TwoHeads(nn.Linear):
        """As torchvision's Inception: with an auxiliary output in training."""

        def forward(self, input):
            result = super().forward(input)
            return (result, result) if self.training else result

    module = TwoHeads(3, 2)
    assert module.training and (Input(3) >> module).output_shape == (None, 2) and module.training


def test_shapes_of_what_follows_are_known_again():
    network = Input((5, 3)) >> nn.LSTM(3, 4, batch_first=True) >> Relu(2)
    assert str(network) == "(?, 5, 3) -> [... 3 layers ...] -> (?, 2)" and not network.is_built
    assert str(nn.Linear(3, 4) >> Relu(2)) == "<unknown> -> [... 2 layers ...] -> (?, 2)"
    assert str(Input((2, 6, 6)) >> nn.Conv2d(2, 3, 3) >> nn.Flatten() >> Relu(5)) == (
        "(?, 2, 6, 6) -> [... 4 layers ...] -> (?, 5)"
    )


def test_a_module_of_several_inputs():
    network = (Input(3) | Input(4)) >> nn.Bilinear(3, 4, 5)
    assert network.output_shape == (None, 5)
    x, y = torch.randn(2, 3), torch.randn(2, 4)
    assert torch.equal(network(x, y), network[2].module(x, y))


def test_an_unknown_input_gives_an_unknown_output():
    assert str((join(Relu()) >> nn.Linear(3, 4)).output_shape) == "<unknown>"


# Finding a shape changes nothing


class Counts(nn.Module):
    """Changes its own state, and draws random numbers, whenever it runs."""

    def __init__(self):
        super().__init__()
        self.calls, self.seen = 0, []
        self.linear = nn.Linear(3, 3)
        self.runs = nn.Buffer(torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        self.seen.append(x)
        self.runs.add_(1)
        return self.linear(x) + torch.rand(1).to(x.device) * 0


@pytest.mark.parametrize(
    "make",
    [
        Counts,
        lambda: nn.BatchNorm1d(3),
        lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)),
        nn.RReLU,
        Fails,
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_untouched(make, training):
    module = make().train(training)
    for part in module.modules():
        part.register_forward_hook(lambda *values: pytest.fail("a hook ran"))
        part.register_forward_pre_hook(lambda *values: pytest.fail("a hook ran"))
    hooks = [len(part._forward_hooks) for part in module.modules()]
    before = {key: (id(value), value.tolist()) for key, value in module.state_dict(keep_vars=True).items()}
    attributes = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    random = torch.get_rng_state()
    network = Input(3) >> module
    network.get_output_shape((4, 3))
    assert {key: (id(value), value.tolist()) for key, value in module.state_dict(keep_vars=True).items()} == before
    assert {name: value for name, value in vars(module).items() if not name.startswith("_")} == attributes
    assert all(part.training is training for part in module.modules())
    assert [len(part._forward_hooks) for part in module.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), random)
    assert all(value.device.type == "cpu" for value in module.state_dict().values())


def test_hooks_run_when_the_network_does():
    module, seen = nn.Linear(3, 2), []
    module.register_forward_hook(lambda *values: seen.append("hook"))
    network = Input(3) >> module
    assert seen == []
    network(torch.ones(1, 3))
    assert seen == ["hook"]


# A module as a layer


def test_a_module_computes_as_by_itself():
    linear, conv = nn.Linear(6, 4), nn.Conv1d(1, 2, 3)
    x = torch.randn(5, 1, 8)
    network = Input((1, 8)) >> conv >> nn.ReLU() >> linear
    torch.testing.assert_close(network(x), linear(torch.relu(conv(x))))
    torch.testing.assert_close(network.output(x), linear(torch.relu(conv(x))))


def test_names_keys_and_variables():
    linear = nn.Linear(3, 2)
    network = Input(3) >> linear >> nn.BatchNorm1d(2) >> as_layer(nn.Linear(2, 2), name="head")
    assert [layer.name for layer in network] == ["input-1", "linear-1", "batch-norm1d-1", "head"]
    assert list(network.state_dict()) == [
        "linear-1.module.weight",
        "linear-1.module.bias",
        *(
            f"batch-norm1d-1.module.{n}"
            for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
        "head.module.weight",
        "head.module.bias",
    ]
    assert network.variables[network[1], "weight"] is linear.weight
    assert [id(parameter) for parameter in network.parameters()][:2] == [id(linear.weight), id(linear.bias)]
    assert list(network[2].variables) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def test_repr_and_params():
    layer = as_layer(nn.Linear(3, 2), name="head")
    assert repr(layer) == "ModuleLayer(Linear(in_features=3, out_features=2, bias=True), name='head')"
    assert layer.get_params() == {"module": layer.module, "name": "head"}
    assert layer.is_built


def test_as_layer():
    relu, linear = Relu(5), nn.Linear(3, 2)
    assert as_layer(relu) is relu
    assert type(as_layer(linear)) is ModuleLayer and as_layer(linear).module is linear
    assert as_layer(linear, name="head").name == "head"


@pytest.mark.parametrize("value", [5, None, "linear", [nn.Linear(1, 1)], nn.Linear])
def test_as_layer_refuses_what_is_no_module(value):
    with pytest.raises(TypeError, match=rf"Expected a torch.nn.Module, got .* of the type {type(value).__name__}"):
        as_layer(value)
    assert Linear().name == "linear-1"


def test_one_module_is_one_node():
    linear = nn.Linear(3, 3)
    layer = as_layer(linear)
    assert as_layer(linear) is layer
    network = (Input(3, name="x") >> linear) | (linear >> Relu(2, name="a"))
    assert network.layer_names_only() == [("x", ["linear-1"]), ("linear-1", ["a"]), ("a", [])]
    assert len(parallel(linear, linear)) == 1
    with pytest.raises(LayerConnectionError, match="cycle"):
        join(linear, linear)
    assert len(list(network.parameters())) == 4


def test_a_module_that_is_gone_takes_its_layer_along():
    linear = nn.Linear(3, 3)
    network = Input(3) >> linear
    watched = weakref.ref(linear), weakref.ref(network[1])
    del linear, network
    gc.collect()
    assert [watch() for watch in watched] == [None, None]


@pytest.mark.parametrize("fails", [False, True])
def test_output_sets_the_mode_and_puts_it_back(fails):
    class Mode(nn.Module):
        def forward(self, x):
            seen.append([part.training for part in module.modules()])
            if fails:
                raise LookupError("why")
            return x

    module = nn.Sequential(nn.BatchNorm1d(3), Mode())
    module[0].eval()
    network = Input(3) >> module
    for training in (True, False):
        seen: list[list[bool]] = []
        if fails:
            with pytest.raises(LookupError, match="why"):
                network.output(torch.randn(2, 3), training=training)
        else:
            network.output(torch.randn(2, 3), training=training)
        assert seen == [[training] * 3]
        assert [part.training for part in module.modules()] == [True, False, True]


def test_copies_have_modules_of_their_own():
    network = Input(3) >> nn.Linear(3, 2)
    x = torch.ones(1, 3)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert twin[1].module is not network[1].module and torch.equal(twin(x), network(x))
        assert twin[1].name == "linear-1"
        assert as_layer(network[1].module) is network[1]
    assert copy.copy(network)[1] is network[1]


# Networks in networks


def test_a_network_as_one_layer():
    block = Relu(4, name="a") >> Tanh(3, name="b")
    network = Input(5, name="x") >> as_layer(block, name="block")
    assert network.layer_names_only() == [("x", ["block"]), ("block", [])]
    assert network.output_shape == (None, 3)
    # It had no variables, and has them now.
    assert block.is_built and block["a"].weight.shape == (5, 4)
    assert list(network.state_dict()) == [f"block.module.{key}" for key in ("a.weight", "a.bias", "b.weight", "b.bias")]
    x = torch.randn(2, 5)
    assert torch.equal(network(x), block(x)) and torch.equal(network.output(x), block(x))


def test_a_network_deep_inside_gets_its_variables():
    inner = Relu(4) >> Relu(4)
    network = Input(5) >> as_layer(Relu(3) >> as_layer(Identity() >> as_layer(inner)))
    assert inner.is_built and inner[0].weight.shape == (3, 4) and network.is_built
    assert network.n_parameters == 18 + 16 + 20


def test_a_network_that_is_not_built_says_so_from_inside_another():
    network = Tanh() >> as_layer(Relu(4, name="loose") >> Relu(4))
    assert not network.is_built
    with pytest.raises(RuntimeError, match="`loose` has no variables yet"):
        _ = network.variables


@pytest.mark.parametrize(
    "make, words",
    [
        (
            lambda block: join(Input(5), as_layer(block), Relu(2, weight=np.ones((9, 2)), name="z")),
            r"z/weight.*\(9, 2\)",
        ),
        (lambda block: join(Input(5), as_layer(block), Input(7, name="z")), r"layer `z`"),
        (lambda block: join(Input((5, 2)), as_layer(block)), r"2 dimensions.*\(\?, 5, 2\).*name='a'"),
        (lambda block: join(Input(5) | Input(5), as_layer(block, name="z")), r"`z` takes 1 input\(s\), got 2"),
    ],
)
def test_a_network_inside_a_failed_one_is_as_before(make, words):
    block = Relu(4, name="a") >> Relu(3, name="b")
    random = torch.get_rng_state()
    weight = block["b"].weight
    with pytest.raises(LayerConnectionError, match=words):
        make(block)
    assert not block.is_built and block["a"].weight is None and block["b"].weight is weight
    assert list(block.state_dict()) == ["b.weight", "b.bias"]
    assert repr(block) == "<unknown> -> [... 2 layers ...] -> (?, 3)"
    assert torch.equal(torch.get_rng_state(), random)
    assert (Input(6) >> as_layer(block)).is_built and block["a"].variables["weight"].shape == (6, 4)


def test_a_network_inside_another_has_one_width():
    block = Input(5) >> Relu(4)
    with pytest.raises(LayerConnectionError, match=r"\(\?, 6\).*\(\?, 5\)"):
        Input(6) >> as_layer(block)
    open_block = Relu(4, name="a") >> Relu(3)
    assert (Input(5) >> as_layer(open_block)).is_built
    with pytest.raises(LayerConnectionError, match=r"`layer-graph-\d`.*\(\?, 6\).*\(\?, 5\)"):
        Input(6) >> as_layer(open_block)
    assert open_block["a"].weight.shape == (5, 4)


def test_a_network_of_several_inputs_and_outputs_inside_another():
    both = (Input(2) | Input(3)) >> Concatenate()
    network = (Input(2) | Input(3)) >> as_layer(both)
    assert network.output_shape == (None, 5)
    assert network(torch.ones(1, 2), torch.zeros(1, 3)).tolist() == [[1, 1, 0, 0, 0]]
    fork = as_layer(Relu() | Tanh())
    assert str((Input(3) | Input(3)) >> fork) == "[(?, 3), (?, 3)] -> [... 3 layers ...] -> <unknown>"


def test_the_work_for_networks_in_networks_is_in_proportion_to_their_depth():
    class Counted(Identity):
        asked = 0

        def get_output_shape(self, input_shape):
            Counted.asked += 1
            return input_shape

    asked = []
    for depth in (2, 4, 8):
        network = join(Counted())
        for _ in range(depth):
            network = Identity() >> as_layer(network)
        Counted.asked = 0
        _ = Input(3) >> network
        asked.append(Counted.asked)
    assert asked[1] <= 2 * asked[0] + 2 and asked[2] <= 2 * asked[1] + 2


@pytest.mark.parametrize(
    "inside", [lambda: nn.Sequential(Relu(4, name="a")), lambda: nn.Sequential(Relu(name="b") >> Relu(4, name="a"))]
)
def test_layers_inside_a_foreign_module_count_as_not_built(inside):
    network = Input(3) >> inside()
    assert not network.is_built
    with pytest.warns(UserWarning, match=r"layers a have no variables yet"):
        list(network.parameters())


def test_a_warning_says_why_a_modules_shape_is_not_known():
    network = Input(4) >> nn.Linear(5, 3) >> Relu(4, name="a")
    with pytest.warns(UserWarning, match=r"layers a .*output shape of `linear-1` is not known: RuntimeError.*5"):
        list(network.parameters())


def test_a_nested_network_keeps_its_input_shape():
    network = as_layer(Input(10) >> Relu(5)) >> Relu(3)
    assert repr(network) == "(?, 10) -> [... 2 layers ...] -> (?, 3)"
    with pytest.raises(ValueError, match=r"\(2, 9\).*`layer-graph-1`.*\(\?, 10\)"):
        network(torch.ones(2, 9))


def test_a_module_adapted_twice_under_one_pattern_is_one_layer():
    module = nn.Linear(2, 2)
    layer = as_layer(module, "fc{}")
    assert as_layer(module, "fc{}") is as_layer(module) is layer and layer.name == "fc1"
    assert as_layer(module, "other") is not layer


def test_a_layer_is_not_renamed_by_adapting_it():
    with pytest.raises(ValueError, match="'a'"):
        as_layer(Relu(name="a"), "b")
