"""TensorShape: what it accepts, what it answers, and the laws that merging, concatenating and slicing obey."""

import copy
import operator
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from torchneupy.core import shape as shape_module
from torchneupy.core.shape import (
    TensorShape,
    add_dimensions,
    apply_to_dimensions,
    merge_dimensions,
    multiply_dimensions,
)

UNKNOWN = TensorShape(None)

# Few and small, so that shapes drawn apart often agree.
dimensions = st.none() | st.integers(0, 3)
dim_tuples = st.lists(dimensions, max_size=6).map(tuple)
known_shapes = dim_tuples.map(TensorShape)
shapes = st.just(UNKNOWN) | known_shapes


@st.composite
def views_of_one_shape(draw, count):
    """Draw shapes that each know some part of the same fully known shape, so that they are compatible."""
    sizes = draw(st.lists(st.integers(0, 3), max_size=6))

    def view():
        if draw(st.integers(0, 5)) == 0:
            return UNKNOWN
        return TensorShape([size if draw(st.booleans()) else None for size in sizes])

    return [view() for _ in range(count)]


def shapes_together(count):
    """Shapes that agree, and shapes that have nothing to do with each other."""
    return views_of_one_shape(count) | st.lists(shapes, min_size=count, max_size=count)


def merged(*operands):
    """Merge from the left; None if two of the shapes are not compatible."""
    result, *others = operands
    try:
        for other in others:
            result = result.merge_with(other)
    except ValueError:
        return None
    return result


# What a shape is made from


@pytest.mark.parametrize(
    "given_dims, dims",
    [
        (None, None),
        ((), []),
        ((None, 10), [None, 10]),
        ([3, None, 0], [3, None, 0]),
        (10, [10]),
        (0, [0]),
        (range(3), [0, 1, 2]),
        (TensorShape([None, 10]), [None, 10]),
        (TensorShape(None), None),
        (torch.Size([2, 3]), [2, 3]),
        (torch.zeros(2, 3).shape, [2, 3]),
        (np.array([2, 3]), [2, 3]),
        (np.int64(4), [4]),
        (np.array(4), [4]),
        (torch.tensor(4), [4]),
        ((None, np.int32(4), torch.tensor(5)), [None, 4, 5]),
    ],
    ids=repr,
)
def test_made_from(given_dims, dims):
    shape = TensorShape(given_dims)
    assert shape == dims and shape.dims == dims
    assert all(type(dim) in (int, type(None)) for dim in dims or [])


def test_made_from_an_iterator():
    assert TensorShape(dim for dim in (None, 2)) == (None, 2)


@pytest.mark.parametrize(
    "given_dims, message",
    [
        (2.0, r"got 2\.0 in the shape \(2\.0,\)"),
        ((None, 2.0), r"got 2\.0 in the shape \(None, 2\.0\)"),
        ([3, np.float32(1.5)], r"got .*1\.5.* in the shape \(3, .*1\.5"),
        ("10", r"got '10' in the shape \('10',\)"),
        ("", r"got '' in the shape \('',\)"),
        (b"10", r"got b'10' in the shape \(b'10',\)"),
        ((None, "10"), r"got '10' in the shape \(None, '10'\)"),
        (True, r"got True in the shape \(True,\)"),
        ((2, False), r"got False in the shape \(2, False\)"),
        ((2, np.bool_(True)), r"got .*True.* in the shape \(2, .*True"),
        (((1, 2), 3), r"got \(1, 2\) in the shape \(\(1, 2\), 3\)"),
        (np.array([[1, 2]]), r"got array\(\[1, 2\]\) in the shape \(array\(\[1, 2\]\),\)"),
        (len, r"got <built-in function len> in the shape"),
    ],
    ids=repr,
)
def test_dimension_of_wrong_type(given_dims, message):
    with pytest.raises(TypeError, match=message):
        TensorShape(given_dims)


@pytest.mark.parametrize(
    "given_dims, message",
    [
        (-1, r"got -1 in the shape \(-1,\)"),
        ((-7, 3), r"got -7 in the shape \(-7, 3\)"),
        ([None, np.int64(-2)], r"got -2 in the shape \(None, .*-2"),
    ],
    ids=repr,
)
def test_negative_dimension(given_dims, message):
    with pytest.raises(ValueError, match=message):
        TensorShape(given_dims)


def test_error_of_a_given_iterator_is_not_hidden():
    def broken():
        yield 3
        raise TypeError("broken on purpose")

    with pytest.raises(TypeError, match="broken on purpose"):
        TensorShape(broken())


def test_needs_neither_torch_nor_numpy():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    command = [sys.executable, "-c", code, shape_module.__file__]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_all_is_complete():
    defined = {
        name
        for name, value in vars(shape_module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == shape_module.__name__
    }
    assert defined | {"Dimension", "ShapeLike"} == set(shape_module.__all__)


# What a shape answers


@pytest.mark.parametrize(
    "dims, string, representation",
    [
        (None, "<unknown>", "TensorShape(None)"),
        ((), "()", "TensorShape([])"),
        ((10,), "(10,)", "TensorShape([10])"),
        ((None,), "(?,)", "TensorShape([None])"),
        ((None, 10), "(?, 10)", "TensorShape([None, 10])"),
        ((None, 28, 28, 1), "(?, 28, 28, 1)", "TensorShape([None, 28, 28, 1])"),
    ],
)
def test_str_and_repr(dims, string, representation):
    shape = TensorShape(dims)
    assert str(shape) == f"{shape}" == string
    assert repr(shape) == representation


@given(shapes)
def test_repr_evaluates(shape):
    assert eval(repr(shape)) == shape


@given(dim_tuples)
def test_known_rank(dims):
    shape = TensorShape(dims)
    assert shape
    assert shape.ndims == shape.rank == len(shape) == len(dims)
    assert shape.dims == shape.as_list() == list(shape) == [*shape] == list(dims)
    assert shape.is_fully_defined() == (None not in dims)
    assert all(shape[index] == dims[index] for index in range(-len(dims), len(dims)))


def test_unknown_rank():
    assert not UNKNOWN
    assert UNKNOWN.ndims is None and UNKNOWN.rank is None and UNKNOWN.dims is None
    assert not UNKNOWN.is_fully_defined()
    assert UNKNOWN.num_elements() is None
    assert UNKNOWN[0] is UNKNOWN[-7] is None


@pytest.mark.parametrize("ask", [len, iter, list, TensorShape.as_list, lambda shape: 3 in shape])
def test_unknown_rank_has_no_list(ask):
    with pytest.raises(ValueError, match="number of dimensions of the shape <unknown> is not known"):
        ask(UNKNOWN)


@pytest.mark.parametrize("dims, n_elements", [((), 1), ((3,), 3), ((3, 4), 12), ((3, 0), 0), ((3, None), None)])
def test_num_elements(dims, n_elements):
    assert TensorShape(dims).num_elements() == n_elements


def test_lists_are_copies():
    shape = TensorShape([None, 10])
    dims = shape.dims
    assert dims is not None
    dims.append(1)
    shape.as_list().append(1)
    assert shape == (None, 10)


@pytest.mark.parametrize("name", ["dims", "ndims", "rank", "something"])
def test_attributes_cannot_be_set(name):
    with pytest.raises(AttributeError, match=name):
        setattr(TensorShape([None, 10]), name, 3)


def test_items_cannot_be_set():
    with pytest.raises(TypeError, match="item assignment"):
        operator.setitem(TensorShape([None, 10]), 0, 3)  # type: ignore[call-overload]  # that is what is refused


# Indexing and slicing


@pytest.mark.parametrize("index", [2, -3, np.int64(2)])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match=rf"Shape \(\?, 10\) has no dimension at index {index}$"):
        TensorShape([None, 10])[index]


@pytest.mark.parametrize("shape", [UNKNOWN, TensorShape([None, 10])], ids=str)
@pytest.mark.parametrize("key, name", [("0", "str"), (1.0, "float"), ((0, 1), "tuple")])
def test_index_of_wrong_type(shape, key, name):
    with pytest.raises(TypeError, match=name):
        shape[key]


@given(dim_tuples, st.slices(5))
def test_slices_are_those_of_a_list(dims, key):
    assert TensorShape(dims)[key] == list(dims)[key]
    assert type(TensorShape(dims)[key]) is TensorShape


@pytest.mark.parametrize(
    "key, result",
    [
        (slice(3), (None, None, None)),
        (slice(1, 3), (None, None)),
        (slice(np.int64(1), 3), (None, None)),
        (slice(2, 2), ()),
        (slice(3, 1), ()),
        (slice(None), None),
        (slice(1, None), None),
        (slice(-1), None),
        (slice(-2, 1), None),
        (slice(0, 4, 2), None),
    ],
    ids=str,
)
def test_slice_of_unknown_rank(key, result):
    assert UNKNOWN[key] == TensorShape(result)


# Equality


@given(shapes)
def test_made_again_is_the_same(shape):
    assert TensorShape(shape) is shape
    assert copy.copy(shape) is copy.deepcopy(shape) is shape


@given(shapes, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_pickle(shape, protocol):
    assert pickle.loads(pickle.dumps(shape, protocol)) == shape


@given(dim_tuples, dim_tuples)
def test_equal_as_tuples_are(one, other):
    equal = one == other
    shape = TensorShape(one)
    assert (shape == TensorShape(other)) is (shape == other) is (shape == list(other)) is (other == shape) is equal
    assert (shape != TensorShape(other)) is (shape != other) is (shape != list(other)) is not equal


@given(dim_tuples)
def test_hash_is_that_of_the_tuple(dims):
    assert hash(TensorShape(dims)) == hash(dims)
    assert {dims: "found"}[TensorShape(dims)] == "found"


def test_unknown_equals_none_alone():
    nothing = None
    assert UNKNOWN == nothing == UNKNOWN == TensorShape(None)
    assert hash(UNKNOWN) == hash(nothing)
    assert TensorShape(()) != nothing and TensorShape(()) != UNKNOWN != ()


def test_equal_to_torch_size():
    assert TensorShape([2, 3]) == torch.Size([2, 3]) == TensorShape([2, 3])
    assert hash(TensorShape([2, 3])) == hash(torch.Size([2, 3]))


@pytest.mark.parametrize(
    "other",
    [
        10,
        "(10, 3)",
        len,
        {10: 3},
        np.array([10, 3]),
        torch.tensor([10, 3]),
        (10.5, 3),
        ("10", 3),
        (-10, 3),
        [[10, 3]],
        (np.array([10, 3]), 3),
    ],
    ids=repr,
)
def test_unequal_to_anything_else(other):
    for shape in (TensorShape([10, 3]), TensorShape(10), UNKNOWN):
        assert (shape == other) is False
        assert (shape != other) is True


# Merging


@given(shapes_together(2))
def test_merging_is_commutative(operands):
    one, other = operands
    assert merged(one, other) == merged(other, one)


@given(shapes_together(3))
def test_merging_is_associative(operands):
    one, two, three = operands
    tail = merged(two, three)
    assert merged(one, two, three) == (None if tail is None else merged(one, tail))


@given(shapes)
def test_merging_is_idempotent(shape):
    assert shape.merge_with(shape) == shape


@given(known_shapes)
def test_unknown_is_neutral(shape):
    assert shape.merge_with(None) == UNKNOWN.merge_with(shape) == shape
    assert shape.merge_with([None] * len(shape)) == shape


@given(shapes_together(2))
def test_compatible_means_mergeable(operands):
    one, other = operands
    result = merged(one, other)
    assert one.is_compatible_with(other) is other.is_compatible_with(one) is (result is not None)


@given(views_of_one_shape(2))
def test_merging_loses_and_invents_nothing(operands):
    one, other = operands
    result = one.merge_with(other)
    assert result.is_compatible_with(one) and result.is_compatible_with(other)
    assert result.merge_with(one) == result.merge_with(other) == result
    if result:
        assert all(dim is None or dim in (one[i], other[i]) for i, dim in enumerate(result))


@pytest.mark.parametrize("other", [(5, None), [5, None], TensorShape([5, None]), torch.Size([5, 10])])
def test_merging_takes_anything_like_a_shape(other):
    assert TensorShape([None, 10]).is_compatible_with(other)
    assert TensorShape([None, 10]).merge_with(other) == (5, 10)


@pytest.mark.parametrize(
    "one, other, message",
    [
        ((None, 10), (3, 11), r"Shapes \(\?, 10\) and \(3, 11\) are not compatible"),
        ((None, 10), 10, r"Shapes \(\?, 10\) and \(10,\) are not compatible"),
        ((), (None,), r"Shapes \(\) and \(\?,\) are not compatible"),
        ((0,), (1,), r"Shapes \(0,\) and \(1,\) are not compatible"),
    ],
)
def test_merging_incompatible_shapes(one, other, message):
    assert not TensorShape(one).is_compatible_with(other)
    with pytest.raises(ValueError, match=message):
        TensorShape(one).merge_with(other)


@pytest.mark.parametrize("method", ["is_compatible_with", "merge_with", "concatenate"])
def test_other_operand_is_checked(method):
    with pytest.raises(TypeError, match=r"got 2\.5 in the shape \(None, 2\.5\)"):
        getattr(TensorShape([None, 10]), method)([None, 2.5])


# Concatenating


@given(known_shapes, known_shapes)
def test_concatenating_adds_ranks(one, other):
    result = one.concatenate(other)
    assert len(result) == len(one) + len(other)
    assert result[: len(one)] == one and result[len(one) :] == other
    assert result.num_elements() == multiply_dimensions(one.num_elements(), other.num_elements())


@given(shapes, shapes, shapes)
def test_concatenating_is_associative(one, two, three):
    assert one.concatenate(two).concatenate(three) == one.concatenate(two.concatenate(three))


@given(shapes)
def test_concatenating_unknown_or_nothing(shape):
    assert shape.concatenate(None) == UNKNOWN.concatenate(shape) == UNKNOWN
    assert shape.concatenate(()) == TensorShape(()).concatenate(shape) == shape


def test_concatenating_one_dimension():
    assert TensorShape([None, 10]).concatenate(3) == (None, 10, 3)


# Single dimensions


@given(dimensions, dimensions)
def test_dimensions_merge_as_shapes_do(one, other):
    assume(one is None or other is None or one == other)
    assert TensorShape([one]).merge_with([other]) == (merge_dimensions(one, other),)


@pytest.mark.parametrize("one, other, result", [(None, None, None), (None, 0, 0), (5, None, 5), (5, 5, 5)])
def test_merge_dimensions(one, other, result):
    assert merge_dimensions(one, other) == result


@pytest.mark.parametrize("one, other, message", [(5, 6, "Dimensions 5 and 6 are"), (3, 0, "Dimensions 3 and 0 are")])
def test_merge_different_dimensions(one, other, message):
    with pytest.raises(ValueError, match=message):
        merge_dimensions(one, other)


@pytest.mark.parametrize(
    "dims, added, multiplied",
    [
        ((), 0, 1),
        ((7,), 7, 7),
        ((3, 4, 5), 12, 60),
        ((0, 4), 4, 0),
        ((3, None), None, None),
        ((None, 0), None, None),
        ((None,), None, None),
    ],
)
def test_add_and_multiply_dimensions(dims, added, multiplied):
    assert add_dimensions(*dims) == added
    assert multiply_dimensions(*dims) == multiplied


def test_apply_to_dimensions():
    def remainder(size, divisor):
        return size % divisor

    assert apply_to_dimensions(remainder, 11, 4) == 3
    assert apply_to_dimensions(remainder, 0, 4) == 0


@pytest.mark.parametrize("dims", [(None,), (3, None), (None, 0)])
def test_apply_to_unknown_dimensions_calls_nothing(dims):
    assert apply_to_dimensions(lambda *_: pytest.fail("called"), *dims) is None
