"""predict: many samples in batches, as arrays."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from torchneupy.layers import BaseLayer, Concatenate, Dropout, Identity, Input, LayerGraph, Linear, Relu


class Remembers(BaseLayer):
    """Passes its input on, and remembers the sizes of the batches, whether gradients were on, and the mode."""

    def __init__(self, name=None):
        super().__init__(name=name)
        self.sizes, self.gradients, self.modes = [], [], []

    def get_output_shape(self, input_shape):
        return input_shape

    def output(self, x, training=False):
        self.sizes.append(len(x))
        self.gradients.append(torch.is_grad_enabled())
        self.modes.append(training)
        return x


@pytest.fixture
def network():
    return Input(3) >> Remembers(name="seen") >> Linear(2, name="last")


def expected(network, x):
    return x @ network["last"].weight.detach().numpy() + network["last"].bias.detach().numpy()


@pytest.mark.parametrize(
    "batch_size, sizes",
    [
        (None, [7]),
        (1, [1] * 7),
        (2, [2, 2, 2, 1]),
        (6, [6, 1]),
        (7, [7]),
        (8, [7]),
        (10**9, [7]),
        (np.int64(3), [3, 3, 1]),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, np.ndarray.tolist])
def test_batches(network, batch_size, sizes, kind):
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    result = network.predict(kind(x), batch_size=batch_size, verbose=False)
    assert network["seen"].sizes == sizes
    assert type(result) is np.ndarray and result.dtype == np.float32
    np.testing.assert_allclose(result, expected(network, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("given", [np.zeros((0, 3)), torch.zeros(0, 3), np.zeros((0, 3), int)])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_no_samples(network, given, batch_size):
    result = network.predict(given, batch_size=batch_size)
    assert result.shape == (0, 2) and result.dtype == np.float32
    two = Input(3) >> (Linear(2) | Linear(4))
    assert [array.shape for array in two.predict(given, batch_size=batch_size)] == [(0, 2), (0, 4)]


def test_lists_are_arrays():
    network = Input(2) >> Linear(1, weight=1, bias=0)
    assert network.predict([[1, 2]], verbose=False).tolist() == [[3]]
    assert network.predict([[1, 2], [3, 4], [5, 6]], batch_size=2, verbose=False).tolist() == [[3], [7], [11]]


@pytest.mark.parametrize("batch_size", [None, 2, 3])
def test_several_outputs_are_a_tuple_of_arrays(batch_size):
    network = Input(2) >> (Linear(1, weight=1, bias=0) | Linear(2, weight=2, bias=0))
    x = np.arange(10, dtype="float32").reshape(5, 2)
    result = network.predict(x, batch_size=batch_size, verbose=False)
    assert type(result) is tuple
    total = x.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result[0], total)
    np.testing.assert_allclose(result[1], np.hstack([2 * total, 2 * total]))


@pytest.mark.parametrize("batch_size", [None, 2])
def test_several_inputs(batch_size):
    network = (Input(1, name="a") | Input(2, name="b")) >> Concatenate()
    x, y = np.arange(3.0).reshape(3, 1), np.arange(6.0).reshape(3, 2)
    for given in [(x, y), ({"b": y, network[0]: x},)]:
        result = network.predict(*given, batch_size=batch_size, verbose=False)
        assert result.tolist() == np.hstack([x, y]).tolist()


@pytest.mark.parametrize(
    "dtype, array_dtype",
    [(torch.float64, "float64"), (torch.float16, "float16"), (torch.bfloat16, "float32")],
)
def test_dtypes(network, dtype, array_dtype):
    network.to(dtype)
    x = np.ones((2, 3))
    result = network.predict(x, verbose=False)
    assert result.dtype == array_dtype
    np.testing.assert_array_equal(result, network.eval()(x).detach().to(torch.float64).numpy())


def test_in_evaluation_mode_and_without_gradients():
    network = Input(3) >> Remembers(name="seen") >> Dropout(0.5)
    x = np.ones((4, 3), "float32")
    assert network.predict(x, batch_size=2, verbose=False).tolist() == x.tolist()
    assert network["seen"].modes == [False] * 2 and network["seen"].gradients == [False] * 2
    tensor = torch.ones(4, 3, requires_grad=True)
    assert network.predict(tensor, verbose=False).tolist() == x.tolist()
    assert torch.is_grad_enabled()


def test_hooks_run():
    network, seen = Input(3) >> Relu(2), []
    network[1].register_forward_hook(lambda *values: seen.append(1))
    network.predict(np.ones((4, 3)), batch_size=2, verbose=False)
    assert seen == [1, 1]


class Fails(BaseLayer):
    def output(self, x):
        raise LookupError("why")


@pytest.mark.parametrize("fails", [False, True])
def test_every_mode_is_restored(fails):
    network = (
        Input(3) >> nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3)) >> Relu(3) >> (Fails() if fails else Identity())
    )
    network.train()
    network[1].module[1].eval()
    network[2].eval()
    modes = [part.training for part in network.modules()]
    if fails:
        with pytest.raises(LookupError, match="why"):
            network.predict(np.ones((2, 3)), verbose=False)
    else:
        network.predict(np.ones((2, 3)), verbose=False)
    assert [part.training for part in network.modules()] == modes
    assert network[1].module[1].num_batches_tracked == 0


# The progress bar


def test_a_bar_shows_several_batches(network, capsys):
    network.predict(np.ones((4, 3)), batch_size=1)
    captured = capsys.readouterr()
    assert "4/4" in captured.err and captured.out == ""


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 4}, {"batch_size": 1, "verbose": False}, {"verbose": False}, {"batch_size": 100}]
)
def test_no_bar_for_one_batch_or_where_none_is_wanted(network, capsys, options):
    network.predict(np.ones((4, 3)), **options)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_tqdm_is_not_needed_without_a_bar(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert network.predict(np.ones((4, 3)), batch_size=1, verbose=False).shape == (4, 2)


# What is refused


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, 2.0, True, False, "2", [2]])
def test_bad_batch_sizes(network, batch_size):
    text = str(batch_size).replace("[", r"\[")
    with pytest.raises(
        (ValueError, TypeError), match=rf"batch size should be a positive integer or None, got '?{text}"
    ):
        network.predict(np.ones((4, 3)), batch_size=batch_size, verbose=False)
    assert network["seen"].sizes == [] and network.training


@pytest.mark.parametrize("kinds", [(np.ones, np.ones), (torch.ones, np.ones)])
def test_different_numbers_of_samples(kinds):
    network = (Input(1) | Input(2)) >> Concatenate()
    with pytest.raises(ValueError, match=r"same number of samples.*\(3, 1\), \(4, 2\)"):
        network.predict(kinds[0]((3, 1)), kinds[1]((4, 2)), verbose=False)


@pytest.mark.parametrize("given", [5.0, np.float32(5), torch.tensor(5.0)])
def test_a_number_is_no_sample(network, given):
    with pytest.raises(ValueError, match=r"samples.*\(\)"):
        network.predict(given)


def test_a_sample_alone_is_refused(network):
    with pytest.raises(ValueError, match=r"shape \(3,\) to the input layer `input-1`, which has shape \(\?, 3\)"):
        network.predict(np.ones(3))
    assert network.training


def test_unknown_keywords(network):
    with pytest.raises(TypeError, match="batchsize"):
        network.predict(np.ones((4, 3)), batchsize=2)
    assert network["seen"].sizes == []


def test_the_empty_network():
    with pytest.raises(ValueError, match=r"no layers|0 input layer\(s\), but 1 inputs"):
        LayerGraph().predict(np.ones((2, 3)))
