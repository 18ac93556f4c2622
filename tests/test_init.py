"""The expected numbers are NeuPy 0.8.2's where a test says so; all others follow from the definitions."""

import copy
import math
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchneupy import init
from torchneupy.core.shape import TensorShape

DRAWING: list[type[Any]] = [
    init.Normal,
    init.Uniform,
    init.Orthogonal,
    init.HeNormal,
    init.HeUniform,
    init.XavierNormal,
    init.XavierUniform,
]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
CUDA = pytest.param("cuda", marks=pytest.mark.cuda)

rules = st.one_of(st.just(init.Constant(3)), st.builds(lambda rule: rule(), st.sampled_from(DRAWING)))
sizes = st.integers(0, 5)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def global_states() -> tuple[object, ...]:
    _, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().tolist(), np.asarray(keys).tolist(), rest


def draw(rule: Any, shape: tuple[int, ...], return_array: bool) -> np.ndarray:
    """Sample in float64, whichever way, and give an array."""
    with default_dtype(torch.float64):
        return np.asarray(rule.sample(shape, return_array=return_array))


# Fans


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_fans_count_elements(shape: list[int]) -> None:
    parameter = np.empty(shape)
    # As many elements as one output has, and as many as one input has.
    assert init.identify_fans(shape) == (parameter[..., 0].size, parameter[..., 0, :].size)
    assert init.identify_fans(torch.Size(shape)) == init.identify_fans(TensorShape(shape)) == init.identify_fans(shape)


def test_fans_recorded_from_neupy() -> None:
    fans = [init.identify_fans(shape) for shape in [(3,), (3, 4), (5, 3, 4), (2, 5, 3, 4)]]
    assert fans == [(3, 1), (3, 4), (15, 20), (30, 40)]


# Distributions

MATRIX, KERNEL, VECTOR = (500, 400), (3, 3, 100, 250), (200_000,)


@pytest.mark.parametrize("return_array", [False, True])
@pytest.mark.parametrize(
    "rule, shape, mean, variance, kurtosis",
    [
        (init.Normal(seed=1), MATRIX, 0, 1e-4, 3),
        (init.Normal(mean=-2, std=3, seed=2), MATRIX, -2, 9, 3),
        (init.Uniform(seed=3), MATRIX, 1 / 2, 1 / 12, 9 / 5),
        (init.Uniform(-1, 5, seed=4), KERNEL, 2, 3, 9 / 5),
        (init.HeNormal(seed=5), MATRIX, 0, 1 / 500, 3),
        (init.HeNormal(gain=2, seed=6), KERNEL, 0, 2 / 900, 3),
        (init.HeNormal(seed=7), VECTOR, 0, 1 / 200_000, 3),
        (init.HeUniform(seed=8), MATRIX, 0, 1 / 500, 9 / 5),
        (init.HeUniform(gain=2, seed=9), KERNEL, 0, 2 / 900, 9 / 5),
        (init.XavierNormal(seed=10), MATRIX, 0, 1 / 900, 3),
        (init.XavierNormal(gain=0.5, seed=11), KERNEL, 0, 0.5 / 3150, 3),
        (init.XavierUniform(seed=12), MATRIX, 0, 1 / 900, 9 / 5),
        (init.XavierUniform(gain=3, seed=13), KERNEL, 0, 3 / 3150, 9 / 5),
        (init.XavierUniform(seed=14), VECTOR, 0, 1 / 200_001, 9 / 5),
    ],
)
def test_moments(
    rule: Any, shape: tuple[int, ...], mean: float, variance: float, kurtosis: float, *, return_array: bool
) -> None:
    standard = (draw(rule, shape, return_array) - mean) / math.sqrt(variance)
    # Five standard errors of each moment of n independent standard values: E x^4 is `kurtosis`, E x^8 at most 105.
    error = 5 / math.sqrt(standard.size)
    assert abs(standard.mean()) < error
    assert abs((standard**2).mean() - 1) < error * math.sqrt(kurtosis - 1)
    assert abs((standard**4).mean() - kurtosis) < error * math.sqrt(105 - kurtosis**2)


@pytest.mark.parametrize("return_array", [False, True])
@pytest.mark.parametrize(
    "rule, shape, low, high",
    [
        (init.Uniform(seed=0), MATRIX, 0, 1),
        (init.Uniform(-3, -1, seed=0), MATRIX, -3, -1),
        (init.HeUniform(gain=2, seed=0), MATRIX, -math.sqrt(3 * 2 / 500), math.sqrt(3 * 2 / 500)),
        (init.XavierUniform(seed=0), KERNEL, -math.sqrt(3 / 3150), math.sqrt(3 / 3150)),
    ],
)
def test_uniform_values_fill_their_interval(
    rule: Any, shape: tuple[int, ...], low: float, high: float, return_array: bool
) -> None:
    values = draw(rule, shape, return_array)
    # An end of one thousandth stays empty with a probability of 0.999 ** 200_000 < 1e-86.
    assert low <= values.min() < low + (high - low) / 1000
    assert high - (high - low) / 1000 < values.max() <= high


@pytest.mark.parametrize("return_array", [False, True])
def test_distributions_of_no_width(return_array: bool) -> None:
    for rule, value in [
        (init.Normal(mean=2, std=0), 2),
        (init.Uniform(4, 4), 4),
        (init.HeNormal(gain=0), 0),
        (init.HeUniform(gain=0), 0),
        (init.XavierNormal(gain=0), 0),
        (init.XavierUniform(gain=0), 0),
    ]:
        assert (draw(rule, (3, 4), return_array) == value).all(), rule


@pytest.mark.parametrize("return_array", [False, True])
@pytest.mark.parametrize("value", [0, 2, -1.5, True, False, np.float32(0.5), np.int64(7), math.inf])
def test_constant(value: float, return_array: bool) -> None:
    values = draw(init.Constant(value), (2, 3), return_array)
    assert values.dtype == np.float64
    assert values.tolist() == [[float(value)] * 3] * 2


def test_numbers_recorded_from_neupy() -> None:
    def array(rule: Any, shape: tuple[int, ...]) -> Any:
        return rule.sample(shape, return_array=True).ravel().round(4).tolist()

    assert array(init.Constant(2), (2,)) == [2, 2]
    assert array(init.Normal(seed=0), (2,)) == [0.0176, 0.004]
    assert array(init.HeNormal(seed=0), (4, 1)) == [0.882, 0.2001, 0.4894, 1.1204]
    assert init.Orthogonal().sample((5,), return_array=True).std() < 0.05
    # one stream from the global generator, rule after rule
    np.random.seed(0)
    rules = init.XavierNormal(), init.XavierUniform(), init.HeNormal(), init.HeUniform()
    assert [round(rule.sample((400, 400), return_array=True).var() * 800, 2) for rule in rules] == [1, 1, 2, 2]


# Orthogonality


@pytest.mark.parametrize("return_array", [False, True])
@given(rows=sizes, columns=sizes, scale=st.sampled_from([1.0, 2, -0.5]), seed=st.integers(0, 2**32 - 1))
def test_orthogonal(return_array: bool, rows: int, columns: int, scale: float, seed: Any) -> None:
    matrix = draw(init.Orthogonal(scale, seed), (rows, columns), return_array)
    assert matrix.shape == (rows, columns)
    product = matrix.T @ matrix if rows > columns else matrix @ matrix.T
    np.testing.assert_allclose(product, scale**2 * np.eye(min(rows, columns)), atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (2, 3)])
def test_orthogonal_prefers_no_direction(shape: tuple[int, ...]) -> None:
    rule = init.Orthogonal()
    torch.manual_seed(0)
    mean = torch.stack([rule.sample(shape) for _ in range(2000)]).mean(dim=0)
    # An element has the variance 1 / max(shape); without the correction of the signs one mean is about -0.6.
    assert mean.abs().max() < 5 / math.sqrt(2000 * max(shape))


@pytest.mark.parametrize("scale", [1, 100])
def test_orthogonal_gives_a_small_normal_vector(scale: float) -> None:
    vector = init.Orthogonal(scale, seed=3).sample((1000,))
    assert torch.equal(vector, init.Normal(std=0.01, seed=3).sample((1000,)))


# Type, device and generators


@pytest.mark.parametrize("device", ["cpu", "meta", CUDA])
@given(rules, st.one_of(st.tuples(sizes), st.tuples(sizes, sizes)), st.sampled_from(DTYPES))
def test_tensor_is_of_default_dtype_and_device(
    device: str, rule: Any, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    with default_dtype(dtype), torch.device(device):
        values = rule.sample(shape)
    assert (values.dtype, values.device.type, values.shape) == (dtype, device, shape)
    assert values.is_contiguous()
    assert not values.requires_grad
    assert device == "meta" or values.isfinite().all()
    array = rule.sample(shape, return_array=True)
    assert (type(array), array.dtype, array.shape) == (np.ndarray, np.float64, shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    with default_dtype(dtype):
        matrix = init.Orthogonal(seed=0).sample((8, 8)).double()
        normal = init.HeNormal(seed=0).sample((200, 500)).double()
        uniform = init.XavierUniform(seed=0).sample((200, 100)).double()
    assert (matrix @ matrix.T - torch.eye(8, dtype=torch.double)).abs().max() < 4 * eps
    assert normal.var().mul(200).sub(1).abs() < 5 * math.sqrt(2 / normal.numel()) + eps
    assert 0.1 * 0.99 < uniform.abs().max() <= 0.1 * (1 + eps)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1, 2, 3), [2, 3], torch.Size([2, 3]), TensorShape([2, 3])])
@pytest.mark.parametrize("rule", [init.Constant(1), init.Normal(), init.Uniform()])
def test_any_shape(rule: Any, shape: tuple[int, ...]) -> None:
    assert rule.sample(shape).shape == tuple(shape)
    array = rule.sample(shape, return_array=True)
    assert type(array) is np.ndarray
    assert array.shape == tuple(shape)


@pytest.mark.parametrize("rule", DRAWING)
def test_torch_seed_reproduces_a_rule_without_seed(rule: Any) -> None:
    torch.manual_seed(5)
    first, second = rule().sample((4, 3)), rule().sample((4, 3))
    torch.manual_seed(5)
    assert torch.equal(rule().sample((4, 3)), first)
    assert not torch.equal(first, second)


def test_normal_and_uniform_are_torchs_own_draws() -> None:
    torch.manual_seed(7)
    expected = torch.empty(4, 5).normal_(1, 2), torch.empty(4, 5).uniform_(-1, 3)
    torch.manual_seed(7)
    values = init.Normal(1, 2).sample((4, 5)), init.Uniform(-1, 3).sample((4, 5))
    assert all(map(torch.equal, values, expected))


@pytest.mark.parametrize("rule", DRAWING)
def test_numpy_seed_reproduces_an_array_without_seed(rule: Any) -> None:
    np.random.seed(5)
    first, second = rule().sample((4, 3), return_array=True), rule().sample((4, 3), return_array=True)
    np.random.seed(5)
    assert np.array_equal(rule().sample((4, 3), return_array=True), first)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(3)])
@pytest.mark.parametrize("shape", [(3,), (4, 3), (3, 4)])
@pytest.mark.parametrize("rule", DRAWING)
def test_seed_gives_the_same_values_at_every_call(rule: Any, shape: tuple[int, ...], seed: Any) -> None:
    before = global_states()
    initializer = rule(seed=seed)
    tensor, array = initializer.sample(shape), initializer.sample(shape, return_array=True)
    assert torch.equal(initializer.sample(shape), tensor)
    assert torch.equal(rule(seed=seed).sample(shape), tensor)
    assert np.array_equal(initializer.sample(shape, return_array=True), array)
    assert not torch.equal(rule(seed=1).sample(shape), tensor)
    assert not np.array_equal(rule(seed=1).sample(shape, return_array=True), array)
    assert global_states() == before


@pytest.mark.cuda
@pytest.mark.parametrize("rule", DRAWING)
def test_seed_gives_the_same_values_on_every_device(rule: Any) -> None:
    with torch.device("cuda"):
        values = rule(seed=4).sample((6, 5))
    assert torch.equal(values.cpu(), rule(seed=4).sample((6, 5)))


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("shape", [(3,), (4, 3), (3, 4)])
@pytest.mark.parametrize("rule", DRAWING)
def test_nothing_is_drawn_on_meta(rule: Any, shape: tuple[int, ...], seed: Any) -> None:
    before = global_states()
    with torch.device("meta"):
        values = rule(seed=seed).sample(shape)
    assert (values.device.type, values.shape) == ("meta", shape)
    assert global_states() == before


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_are_checked_on_every_device(device: str) -> None:
    with torch.device(device):
        with pytest.raises(ValueError, match=r"got 3: \(2, 3, 4\)"):
            init.Orthogonal().sample((2, 3, 4))
        with pytest.raises(ValueError, match=r"got \(\)"):
            init.HeNormal().sample(())


# Errors


@pytest.mark.parametrize("return_array", [False, True])
@pytest.mark.parametrize("rule", [init.Constant, *DRAWING])
@pytest.mark.parametrize(
    "shape, error, message",
    [
        ((None, 3), ValueError, r"got \(\?, 3\)"),
        (TensorShape(None), ValueError, "got <unknown>"),
        (None, ValueError, "got <unknown>"),
        ((3, -1), ValueError, r"got -1 in the shape \(3, -1\)"),
        ((3.0, 2), TypeError, r"got 3.0 in the shape \(3.0, 2\)"),
        (("a",), TypeError, r"got 'a' in the shape \('a',\)"),
    ],
)
def test_bad_shape(rule: Any, shape: tuple[int, ...], error: type[Exception], message: str, return_array: bool) -> None:
    with pytest.raises(error, match=message):
        rule().sample(shape, return_array=return_array)


def test_unknown_shape_is_reported_with_the_rule() -> None:
    with pytest.raises(ValueError, match=r"^HeNormal\(gain=2\) .* got \(3, \?\)$"):
        init.HeNormal(gain=2).sample((3, None))
    with pytest.raises(ValueError, match=r"^identify_fans .* got \(3, \?\)$"):
        init.identify_fans((3, None))


@pytest.mark.parametrize("return_array", [False, True])
@pytest.mark.parametrize("rule", [init.HeNormal, init.HeUniform, init.XavierNormal, init.XavierUniform])
def test_fans_need_a_dimension(rule: Any, return_array: bool) -> None:
    with pytest.raises(ValueError, match=r"at least one dimension, got \(\)"):
        rule().sample((), return_array=return_array)


@pytest.mark.parametrize("return_array", [False, True])
@pytest.mark.parametrize("shape", [(), (2, 3, 4), (3, 3, 2, 4)])
def test_orthogonal_needs_one_or_two_dimensions(shape: tuple[int, ...], return_array: bool) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {len(shape)}: {shape}")):
        init.Orthogonal(scale=2).sample(shape, return_array=return_array)


@pytest.mark.parametrize(
    "rule, options, error, message",
    [
        (init.Normal, {"std": -0.5}, ValueError, "Normal .* at least 0 as its std, got -0.5"),
        (init.Normal, {"std": math.inf}, ValueError, "Normal .* finite .* std, got inf"),
        (init.Normal, {"mean": math.nan}, ValueError, "Normal .* finite .* mean, got nan"),
        (init.Normal, {"mean": -math.inf}, ValueError, "Normal .* finite .* mean, got -inf"),
        (init.Normal, {"mean": "0"}, TypeError, "Normal .* number as its mean, got '0'"),
        (init.Normal, {"std": None}, TypeError, "Normal .* number as its std, got None"),
        (init.Uniform, {"minval": 2, "maxval": 1}, ValueError, "Uniform .* at least 2 as its maxval, got 1"),
        (init.Uniform, {"minval": -math.inf, "maxval": 1}, ValueError, "Uniform .* finite .* minval, got -inf"),
        (init.Uniform, {"minval": 0, "maxval": math.inf}, ValueError, "Uniform .* finite .* maxval, got inf"),
        (init.Uniform, {"minval": 0, "maxval": [1]}, TypeError, r"Uniform .* maxval, got \[1\]"),
        (init.Orthogonal, {"scale": math.nan}, ValueError, "Orthogonal .* finite .* scale, got nan"),
        (init.Orthogonal, {"scale": 1j}, TypeError, "Orthogonal .* number as its scale, got 1j"),
        (init.HeNormal, {"gain": -2}, ValueError, "HeNormal .* at least 0 as its gain, got -2"),
        (init.HeUniform, {"gain": math.inf}, ValueError, "HeUniform .* finite .* gain, got inf"),
        (init.XavierNormal, {"gain": math.nan}, ValueError, "XavierNormal .* finite .* gain, got nan"),
        (init.XavierUniform, {"gain": "2"}, TypeError, "XavierUniform .* number as its gain, got '2'"),
        (init.Constant, {"value": "1"}, TypeError, "Constant .* number as its value, got '1'"),
        (init.Constant, {"value": 1j}, TypeError, "Constant .* number as its value, got 1j"),
        (init.Constant, {"value": np.ones(2)}, TypeError, r"Constant .* value, got array\(\[1., 1.\]\)"),
    ],
)
def test_bad_number(rule: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rule(**options)


@pytest.mark.parametrize("rule", DRAWING)
@pytest.mark.parametrize(
    "seed, error", [(-1, ValueError), (2**32, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError)]
)
def test_bad_seed(rule: Any, seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{rule.__name__} .* seed, got {seed!r}$"):
        rule(seed=seed)


# What the classes are


@pytest.mark.parametrize("abstract", [init.Initializer, init.InitializerWithGain])
def test_abstract(abstract: type[Any]) -> None:
    with pytest.raises(TypeError, match=f"{abstract.__name__}.*sample"):
        abstract()


def test_rules_of_ones_own() -> None:
    # NeuPy asks of a rule no more than a method of one argument, which may give an array.
    own: Any = type("Ones", (init.Initializer,), {"sample": lambda self, shape: np.ones(shape)})
    with_gain: Any = type("Gains", (init.InitializerWithGain,), {"sample": lambda self, shape: [self.gain] * shape})

    class Narrow(init.Normal):
        pass

    assert own().sample((2,)).tolist() == [1, 1]
    assert with_gain(3).sample(2) == [3, 3]
    assert repr(with_gain(3)) == "Gains(gain=3)"
    assert repr(Narrow(std=0.1)) == "Narrow(mean=0, std=0.1)"


REPRS = [
    (init.Constant(), "Constant(0)"),
    (init.Constant(1.0), "Constant(1.0)"),
    (init.Constant(np.float64(0.5)), "Constant(0.5)"),
    (init.Normal(), "Normal(mean=0, std=0.01)"),
    (init.Normal(seed=0), "Normal(mean=0, std=0.01)"),
    (init.Uniform(), "Uniform(0, 1)"),
    (init.Uniform(-0.5, 2, seed=1), "Uniform(-0.5, 2)"),
    (init.Orthogonal(), "Orthogonal(scale=1.0)"),
    (init.HeNormal(), "HeNormal(gain=1.0)"),
    (init.HeNormal(gain=2), "HeNormal(gain=2)"),
    (init.HeUniform(seed=2), "HeUniform(gain=1.0)"),
    (init.XavierNormal(seed=3), "XavierNormal(gain=1.0)"),
    (init.XavierUniform(gain=0.5), "XavierUniform(gain=0.5)"),
]


@pytest.mark.parametrize("rule, expected", REPRS)
def test_repr_recorded_from_neupy(rule: Any, expected: str) -> None:
    assert repr(rule) == expected
    assert repr(eval(expected, vars(init))) == expected


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda rule: pickle.loads(pickle.dumps(rule))])
@pytest.mark.parametrize("rule", [init.Constant(4), *(rule(seed=6) for rule in DRAWING)])
def test_copies_give_the_same_values(rule: Any, copied: Callable[[Any], Any]) -> None:
    other = copied(rule)
    assert other is not rule
    assert (type(other), vars(other)) == (type(rule), vars(rule))
    assert torch.equal(other.sample((4, 3)), rule.sample((4, 3)))


def test_star_import_gives_neupys_names() -> None:
    namespace: dict[str, object] = {}
    exec("from torchneupy.init import *", namespace)
    assert set(namespace) - {"__builtins__"} == {"Initializer", "Constant", *(rule.__name__ for rule in DRAWING)}
