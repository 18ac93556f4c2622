"""What may be given to a network as its inputs, and what is refused."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from torchneupy.layers import Concatenate, Identity, Input, LayerGraph, Linear, Relu, join


@pytest.fixture
def pair():
    """A network of two inputs whose output shows which came where."""
    return (Input(2, name="left") | Input(3, name="right")) >> Concatenate()


LEFT, RIGHT = [[1.0, 2.0]], [[3.0, 4.0, 5.0]]
WAYS = {
    "by position": lambda n, x, y: (x, y),
    "by name": lambda n, x, y: ({"left": x, "right": y},),
    "by name, in another order": lambda n, x, y: ({"right": y, "left": x},),
    "by layer": lambda n, x, y: ({n[0]: x, n[1]: y},),
    "by layer and by name": lambda n, x, y: ({n[1]: y, "left": x},),
}
KINDS = {
    "tensors": torch.tensor,
    "arrays": np.array,
    "lists": lambda values: values,
    "tuples": lambda values: tuple(map(tuple, values)),
    "float64 arrays": lambda values: np.array(values, "float64"),
    "int8 arrays": lambda values: np.array(values, "int8"),
    "lists of integers": lambda values: [[int(value) for value in row] for row in values],
    "float16 arrays": lambda values: np.array(values, "float16"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_inputs(pair, way, kind):
    given = way(pair, kind(LEFT), kind(RIGHT))
    expected = torch.tensor([[1.0, 2, 3, 4, 5]])
    for output in (pair(*given), pair.output(*given), pair.output(*given, training=True)):
        assert torch.equal(output, expected) and output.dtype == torch.float32
    predicted = pair.predict(*given, verbose=False)
    assert isinstance(predicted, np.ndarray) and predicted.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_inputs_as_keywords(pair, kind):
    expected = torch.tensor([[1.0, 2, 3, 4, 5]])
    assert torch.equal(pair(left=kind(LEFT), right=kind(RIGHT)), expected)
    assert torch.equal(pair.forward(right=kind(RIGHT), left=kind(LEFT)), expected)
    one = Input(2, name="in") >> Linear(1, weight=1, bias=0)
    assert one(**{"in": kind(LEFT)}).tolist() == [[3]]


def test_a_module_of_the_users_calls_a_network_by_keywords(pair):
    class Caller(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = pair

        def forward(self, x, y):
            return self.pair(right=y, left=x)

    inputs = torch.tensor(LEFT), torch.tensor(RIGHT)
    caller = Caller()
    for run in (
        caller,
        torch.fx.symbolic_trace(caller),
        torch.export.export(caller, inputs).module(),
        torch.compile(caller, fullgraph=True, backend="eager"),
    ):
        assert run(*inputs).tolist() == [[1, 2, 3, 4, 5]]


def test_compiled_and_exported_a_network_takes_keywords(pair):
    x, y = torch.tensor(LEFT), torch.tensor(RIGHT)
    compiled = torch.compile(pair, fullgraph=True, backend="eager")
    exported = torch.export.export(pair, (), {"left": x, "right": y}).module()
    for run in (compiled, exported):
        assert run(left=x, right=y).tolist() == [[1, 2, 3, 4, 5]]
    assert compiled(x, y).tolist() == [[1, 2, 3, 4, 5]]
    with pytest.raises(ValueError, match=r"Cannot feed value of shape \(1, 3\) to the input layer `left`"):
        pair(left=y, right=x)


def test_interpreted_node_by_node_a_traced_network_takes_inputs_one_by_one(pair):
    traced = torch.fx.symbolic_trace(pair)
    found = torch.fx.Interpreter(traced).run(torch.tensor(LEFT), torch.tensor(RIGHT))
    assert found.tolist() == [[1, 2, 3, 4, 5]]


def test_inputs_are_not_given_in_two_ways(pair):
    with pytest.raises(TypeError, match="one by one or by name, not both, got 1 and right"):
        pair(LEFT, right=RIGHT)
    with pytest.raises(TypeError, match="one by one or by name, not both, got 2 and training"):
        pair(LEFT, RIGHT, training=True)


def test_tensors_and_arrays_may_be_mixed(pair):
    assert pair(torch.tensor(LEFT), np.array(RIGHT)).tolist() == [[1, 2, 3, 4, 5]]


@pytest.mark.parametrize("given", [[[1, 2]], np.array([[1, 2]]), {"x": [[1, 2]]}])
def test_one_input(given):
    network = Input(2, name="x") >> Linear(1, weight=1, bias=0)
    assert network(given).tolist() == network.output(given).tolist() == [[3]]


def test_a_tensor_passes_untouched():
    network = Input(3) >> Identity()
    for x in (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bfloat16)):
        assert network(x) is x and network.output(x) is x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_arrays_become_what_the_network_computes_in(dtype):
    network = (Input(3) >> Linear(3, weight=np.eye(3))).to(dtype)
    for given in (np.ones((2, 3), "float32"), np.ones((2, 3), "int64"), np.ones((2, 3), bool), [[1, 1, 1]] * 2):
        assert network(given).dtype == network.output(given).dtype == dtype
    precise = (Input(1) >> Linear(1, weight=1, bias=0)).double()
    assert precise([[0.1]]).item() == 0.1
    assert precise.predict([[0.1]], verbose=False).tolist() == [[0.1]]


def test_without_variables_arrays_become_the_default_dtype():
    network = Input(2) >> Identity()
    assert network(np.ones((1, 2))).dtype == torch.float32
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert network(np.ones((1, 2), "float32")).dtype == torch.float64
    finally:
        torch.set_default_dtype(before)


def test_arrays_go_to_the_device_of_the_network():
    network = (Input(3) >> Relu(2)).to("meta")
    assert network(np.ones((4, 3))).device.type == "meta"


def test_whole_numbers_for_an_embedding_stay_whole():
    network = Input(3) >> nn.Embedding(5, 2)
    expected = network[1].module.weight[[4, 0, 2]]
    assert torch.equal(network(torch.tensor([[4, 0, 2]]))[0], expected)
    assert torch.equal(network(np.array([[4, 0, 2]]))[0], expected)
    assert torch.equal(network([[4, 0, 2]])[0], expected)


def test_an_array_is_not_changed():
    array = np.full((1, 2), -1.0, "float32")
    network = Input(2) >> Relu()
    network(array), network.output(array), network.predict(array, verbose=False)
    assert array.tolist() == [[-1, -1]]


# Shapes


@pytest.mark.parametrize(
    "shape, good",
    [
        (3, (1, 3)),
        (3, (0, 3)),
        ((4, 3), (2, 4, 3)),
        ((None, 3), (2, 9, 3)),
        ((None, None), (2, 0, 1)),
        ((), (5,)),
    ],
)
def test_shapes_that_fit(shape, good):
    network = Input(shape) >> Identity()
    for given in (torch.zeros(good), np.zeros(good)):
        assert network(given).shape == network.output(given).shape == good


BAD_SHAPES = [
    (3, (1, 4), "(?, 3)"),
    (3, (3,), "(?, 3)"),
    (3, (1, 1, 3), "(?, 3)"),
    (3, (), "(?, 3)"),
    ((4, 3), (2, 3, 4), "(?, 4, 3)"),
    ((4, 3), (4, 3), "(?, 4, 3)"),
    ((None, 3), (2, 9, 4), "(?, ?, 3)"),
    ((None, 3), (2, 3), "(?, ?, 3)"),
    ((), (2, 1), "(?,)"),
    ((), (), "(?,)"),
]


@pytest.mark.parametrize("shape, bad, text", BAD_SHAPES)
@pytest.mark.parametrize("make", [torch.zeros, np.zeros])
@pytest.mark.parametrize("run", ["__call__", "output", "predict"])
def test_shapes_that_do_not_fit(shape, bad, text, make, run):
    network = Input(shape, name="pixels") >> Identity()
    # predict meets a value without samples before it knows which layer it is for.
    words = [str(bad)] if bad == () and run == "predict" else [str(bad), "`pixels`", text]
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        getattr(network, run)(make(bad))


def test_the_input_that_does_not_fit_is_named(pair):
    with pytest.raises(ValueError, match=r"shape \(1, 3\) to the input layer `left`, which has shape \(\?, 2\)"):
        pair(torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"shape \(1, 2\) to the input layer `right`, which has shape \(\?, 3\)"):
        pair.output({"right": [[1, 2]], "left": [[1, 2]]})


def test_a_part_that_begins_inside_checks_too():
    network = Input(4) >> Relu(3, name="hidden") >> Linear(2, name="last")
    with pytest.raises(ValueError, match=r"shape \(1, 4\) to the input layer `last`, which has shape \(\?, 3\)"):
        network.start("last")(torch.ones(1, 4))
    assert network.start("last")(torch.ones(1, 3)).shape == (1, 2)


# Numbers and keys


@pytest.mark.parametrize("run", ["__call__", "output", "predict"])
@pytest.mark.parametrize("given", [[], [LEFT], [np.array(LEFT)] * 3, [[LEFT, RIGHT]]])
def test_wrong_number_of_inputs(pair, run, given):
    with pytest.raises(ValueError, match=rf"2 input layer\(s\), but {len(given)} inputs.*left, right"):
        getattr(pair, run)(*given)


@pytest.mark.parametrize("run", ["__call__", "output", "predict"])
@pytest.mark.parametrize(
    "keys, error, words",
    [
        ([], ValueError, r"no input for the input layer\(s\) left, right"),
        (["left"], ValueError, r"no input for the input layer\(s\) right"),
        (["left", "right", "nope"], NameError, r"Cannot find layer with name 'nope'"),
        (["left", "concatenate-1"], ValueError, r"`concatenate-1` is not an input layer in the network"),
        (["left", Input(3, name="foreign")], ValueError, r"`foreign` layer doesn't appear in the network"),
        (["left", Input(3, name="right")], ValueError, r"`right` layer doesn't appear in the network"),
        (["left", 1], ValueError, r"`1`"),
        (["left", None], ValueError, r"`None`"),
    ],
)
def test_wrong_keys(pair, run, keys, error, words):
    with pytest.raises(error, match=words):
        getattr(pair, run)({key: LEFT if key == "left" else RIGHT for key in keys})


@pytest.mark.parametrize("names", [["left"], ["left", "right", "nope"], ["left", "concatenate-1"]])
def test_wrong_keywords_are_refused_as_wrong_keys_are(pair, names):
    given = {name: LEFT if name == "left" else RIGHT for name in names}
    with pytest.raises((NameError, ValueError)) as expected:
        pair(given)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        pair(**given)


def test_an_ambiguous_name_of_inputs():
    network = (Input(2, name="x") | Input(2, name="x")) >> Concatenate()
    with pytest.raises(NameError, match="Ambiguous layer name `x`"):
        network({"x": LEFT})
    assert network({network[1]: [[3, 4]], network[0]: [[1, 2]]}).tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("run", ["__call__", "output", "predict"])
@pytest.mark.parametrize("given", [[], [LEFT], [{}]])
def test_the_empty_network_cannot_be_run(run, given):
    with pytest.raises(ValueError, match=r"no layers|0 input layer"):
        getattr(LayerGraph(), run)(*given)


def test_a_layer_whose_input_shape_is_not_known_takes_anything_that_it_can():
    network = join(Relu())
    assert network([1.0, -1.0]).tolist() == [1, 0]
    assert network(torch.tensor(-1.0)).item() == 0


@pytest.mark.parametrize("run", ["__call__", "output"])
@pytest.mark.parametrize("bad", ["abc", None, [[1, 2], [3]]])
def test_what_is_no_array_is_refused_by_the_input_layers_name(run, bad):
    network = Input(2, name="x") >> Relu()
    with pytest.raises((TypeError, ValueError), match=r"`x`"):
        getattr(network, run)(bad)


def test_a_traced_network_counts_its_inputs(monkeypatch):
    network = Input(2, name="x") >> Relu(3)
    monkeypatch.setattr("torchneupy.layers.network.is_traced", lambda: True)
    with pytest.raises(ValueError, match=r"1 input layer.*2 inputs.*x"):
        network(torch.ones(1, 2), torch.ones(1, 2))
