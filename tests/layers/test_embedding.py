"""What the contract does not ask of Embedding: indices of any kind, and such as there are not."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.testing import assert_close

from torchneupy.exceptions import WeightInitializationError
from torchneupy.layers import Embedding, Identity, Input, Relu, Reshape, join

TABLE = np.arange(12.0).reshape(4, 3)


def network_of(layer: Any, *sizes: int | None) -> Any:
    return Input(sizes) >> layer


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "bool", "float32", "float64", "float16"])
def test_indices_of_any_type(dtype: str) -> None:
    array = np.array([[0, 1], [1, 0]] if dtype == "bool" else [[0, 3], [2, 1]]).astype(dtype)
    network = network_of(Embedding(4, 3, weight=TABLE), 2)
    wanted = torch.tensor(TABLE[array.astype(int)], dtype=torch.float32)
    for found in (network(torch.tensor(array)), network(array), network.output(array), network(array.tolist())):
        assert_close(found.detach(), wanted)
    assert_close(network.predict(array, verbose=False), wanted.numpy())


def test_fractions_are_cut() -> None:  # recorded from NeuPy
    network = network_of(Embedding(4, 3, weight=TABLE), 4)
    output = network(torch.tensor([[0.9, 2.9, -0.5, 1.0]]))
    assert_close(output[0].detach(), torch.tensor(TABLE[[0, 2, 0, 1]], dtype=torch.float32))


def test_large_indices_keep_their_digits() -> None:
    network = network_of(Embedding(3000, 1, weight=np.arange(3000)[:, None] % 2), 2)  # odd rows have a one
    indices = np.array([[257, 2999]])
    for dtype in (torch.bfloat16, torch.float16):
        network.to(dtype)
        wanted = torch.ones(1, 2, 1, dtype=dtype)
        for given in (indices, indices.astype("float32"), indices.astype("float64"), indices.tolist()):
            assert_close(network(given).detach(), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [4, -1, 100])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.float32])
def test_an_index_that_is_not_there(wrong: int, kind: torch.dtype) -> None:
    layer = Embedding(4, 3, name="words")
    network = network_of(layer, 2)
    before = copy.deepcopy(layer.state_dict())
    indices = torch.tensor([[0, 1], [wrong, 3]], dtype=kind)
    least, most = min(wrong, 0), max(wrong, 3)
    for run in (layer, layer.output, network, network.output):
        with pytest.raises(IndexError, match=rf"`words`.*between 0 and 3 \(they go from {least} to {most}\)"):
            run(indices)
    with pytest.raises(IndexError, match=r"`words`.*between 0 and 3: "):
        vmap(layer)(indices)
    assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_as_in_torch() -> None:
    layer = Embedding(10, 4)
    network, rival = network_of(layer, None), nn.Embedding(10, 4)
    rival.load_state_dict({"weight": layer.weight.detach()})
    indices = torch.randint(10, (6, 5), generator=torch.Generator().manual_seed(0))
    one, other = network(indices), rival(indices)
    assert torch.equal(one, other)
    weights = torch.linspace(-1, 1, one.numel()).view_as(one)
    ours, theirs = ((output * weights).sum() for output in (one, other))
    assert_close(*(torch.autograd.grad(loss, w)[0] for loss, w in ((ours, layer.weight), (theirs, rival.weight))))


def test_the_gradient_counts_how_often_a_row_was_looked_up() -> None:
    layer = Embedding(4, 1)
    network_of(layer, 3)(torch.tensor([[0, 2, 2], [2, 0, 3]])).sum().backward()
    assert layer.weight.grad.flatten().tolist() == [2, 0, 3, 1]


def test_one_table_for_inputs_of_several_sizes() -> None:
    layer = Embedding(4, 3, weight=TABLE)
    networks = [network_of(layer, *sizes) for sizes in ((), (2,), (None,), (2, 5))]
    assert [str(network.output_shape) for network in networks] == ["(?, 3)", "(?, 2, 3)", "(?, ?, 3)", "(?, 2, 5, 3)"]
    assert len({id(network.layers[-1].weight) for network in networks}) == 1


def test_shapes_that_are_not_known() -> None:
    layer = Embedding(4, 3)
    assert layer.output_shape.ndims is None
    network = Identity() >> layer >> Relu()
    assert network.output_shape.ndims is None
    assert layer.weight.shape == (4, 3)  # which does not depend on what comes in
    assert network(torch.tensor([[0, 1]])).shape == (1, 2, 3)


def test_alone_it_has_no_table() -> None:
    layer = Embedding(4, 3, name="words")
    with pytest.raises(WeightInitializationError, match="`words` has no variables yet"):
        layer(torch.tensor([0]))


def test_categories() -> None:
    network = join(Input(2), Embedding(4, 3, weight=TABLE), Reshape())
    assert network.predict(np.array([[0, 3]]), verbose=False).tolist() == [[0, 1, 2, 9, 10, 11]]
