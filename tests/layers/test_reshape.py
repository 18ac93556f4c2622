"""What the contract does not ask of Reshape and Transpose; numpy says what has to come out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import Identity, Input, Relu, Reshape, Transpose, join

# The first use of something in torch may take long.
UNTIMED = settings(deadline=None)


def numbered(*shape: int) -> torch.Tensor:
    return torch.arange(math.prod(shape), dtype=torch.float32).view(shape)


@st.composite
def reshapes(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of a sample, and others with as many values, of which one may be -1."""
    sizes = draw(st.lists(st.integers(1, 6), max_size=4))
    left, shape = math.prod(sizes), []
    for _ in range(draw(st.integers(0, 3))):
        shape.append(draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
        left //= shape[-1]
    if left > 1 or draw(st.booleans()):
        shape.append(left)
    if shape and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = -1
    return tuple(sizes), tuple(draw(st.permutations(shape)))


@UNTIMED
@given(drawn=reshapes(), batch=st.integers(0, 3), hidden=st.sets(st.integers(0, 3)))
def test_any_shape(drawn: Any, batch: int, hidden: set[int]) -> None:
    sizes, shape = drawn
    n_values = math.prod(sizes)
    wanted = tuple(abs(n_values // math.prod(shape)) if size == -1 else size for size in shape)
    x = numbered(batch, *sizes)
    layer = Reshape(shape)
    assert (Input(sizes) >> layer).output_shape == (None, *wanted)
    for network in (Input(sizes) >> Reshape(shape), join(Input([*sizes]), Reshape(list(shape)))):
        np.testing.assert_array_equal(network(x).numpy(), x.numpy().reshape(batch, *wanted))
    # What is not known does not get in the way.
    partly = tuple(None if place in hidden else size for place, size in enumerate(sizes))
    network = Input(partly) >> Reshape(shape)
    assert network.output_shape.is_compatible_with((batch, *wanted))
    assert network(x).shape == layer.output(x).shape == (batch, *wanted)


@pytest.mark.parametrize(
    "sizes, shape, expected",
    [
        ((None, 4), -1, (None, None)),
        ((None, 4), (-1, 2), (None, None, 2)),
        ((None, 4), (5, 2), (None, 5, 2)),
        ((), -1, (None, 1)),
        ((1, 1), (), (None,)),
    ],
)
def test_declared_shapes(sizes: Any, shape: Any, expected: Any) -> None:
    assert (Input(sizes) >> Reshape(shape)).output_shape == expected


def test_declared_shapes_of_what_is_unknown() -> None:
    assert (Relu() >> Reshape((5, 2))).output_shape == (None, 5, 2)
    assert (Relu() >> Reshape()).output_shape == (None, None)
    assert (Relu() >> Transpose((0, 2, 1))).output_shape == (None, None, None)


@pytest.mark.parametrize("shape", [5, [5], (5,), np.int64(5), (np.int8(5),)])
def test_a_shape_in_any_form(shape: Any) -> None:
    layer = Reshape(shape)
    assert layer.shape == (5,)
    assert repr(layer) == "Reshape((5,), name='reshape-1')"


def test_nothing_is_copied_where_it_need_not_be() -> None:
    x = numbered(2, 3, 4, 5)
    for shape in (-1, (12, 5), (3, 2, -1)):
        assert (Input((3, 4, 5)) >> Reshape(shape))(x).data_ptr() == x.data_ptr()
    moved = (Input((3, 4, 5)) >> Transpose((0, -1, 1, 2)))(x)
    assert moved.data_ptr() == x.data_ptr()
    np.testing.assert_array_equal((Input((5, 3, 4)) >> Reshape())(moved).numpy(), moved.numpy().reshape(2, -1))


@pytest.mark.parametrize("shape", [(3, 7), (3, -1)])
def test_what_only_a_call_shows(shape: tuple[int, ...]) -> None:
    layer = Reshape(shape, name="other")
    network = Input((None, 4)) >> layer
    with pytest.raises(RuntimeError) as caught:
        network(torch.ones(2, 5, 4))
    assert "`other`" in caught.value.__notes__[0] and "(2, 5, 4)" in caught.value.__notes__[0]


def test_integers_stay_integers() -> None:
    x = torch.arange(12).view(2, 2, 3)
    for layer in (Reshape(), Transpose((0, 2, 1))):
        assert (Input((2, 3)) >> layer)(x).dtype is torch.int64


# Transpose


@UNTIMED
@given(
    perm=st.integers(1, 5).flatmap(lambda n: st.permutations(range(n))),
    negative=st.sets(st.integers(0, 4)),
    as_list=st.booleans(),
)
def test_any_order(perm: list[int], negative: set[int], as_list: bool) -> None:
    n_axes = len(perm)
    given_perm = [axis - n_axes if axis in negative else axis for axis in perm]
    sizes = tuple(range(2, 1 + n_axes))
    x = numbered(7, *sizes)
    layer = Transpose(given_perm if as_list else tuple(given_perm))
    network = Input(sizes) >> layer
    wanted = x.numpy().transpose(perm)
    np.testing.assert_array_equal(network(x).numpy(), wanted)
    assert network.output_shape == tuple(None if axis == 0 else sizes[axis - 1] for axis in perm)
    assert layer.get_output_shape(x.shape) == wanted.shape
    assert type(layer.perm) is (list if as_list else tuple)


@pytest.mark.parametrize("perm", [(0, 1, 1), [0, 0], (-1, -1)])
def test_an_axis_given_twice(perm: Any) -> None:
    with pytest.raises(ValueError, match=r"`perm` should be unique, got .*\(option of Transpose\)"):
        Transpose(perm)


@pytest.mark.parametrize("perm", [(0, 2), (0, 3, 1), (0, 1, -2), (0, 1, -4)])
@pytest.mark.parametrize("known", [True, False])
def test_not_the_axes_that_there_are(perm: Any, known: bool) -> None:
    before = Input((7, 11)) if known else Identity()
    with pytest.raises(LayerConnectionError, match=r"Permutation: \(.*\), Input shape: .*turn"):
        before >> Transpose(perm, name="turn")


@pytest.mark.parametrize("perm", [(0, 1, 2, 3), (0, 1), ()])
def test_not_as_many_axes_as_there_are(perm: Any) -> None:
    with pytest.raises(LayerConnectionError, match=r"Permutation: \(.*\), Input shape: \(\?, 7, 11\).*turn"):
        Input((7, 11)) >> Transpose(perm, name="turn")


def test_the_batch_moves() -> None:
    network = Input((3, 4)) >> Transpose((1, 0, 2))
    assert network.output_shape == TensorShape((3, None, 4))
    assert network(numbered(5, 3, 4)).shape == (3, 5, 4)
    assert str(network) == "(?, 3, 4) -> [... 2 layers ...] -> (3, ?, 4)"
