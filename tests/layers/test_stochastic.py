"""Expected values follow from the definitions; the places of DropBlock's blocks were recorded from NeuPy 0.8.2."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import DropBlock, Dropout, GaussianNoise, Identity, Input, join

# The first use of something in torch may take long.
UNTIMED = settings(deadline=None)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
MAKERS: dict[str, Callable[[], Identity]] = {
    "Dropout": lambda: Dropout(0.5),
    "GaussianNoise": GaussianNoise,
    "DropBlock": lambda: DropBlock(0.5, 2),
}
every_layer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def within_five_errors(frequency: float, probability: float, n: int) -> bool:
    return abs(frequency - probability) <= 5 * math.sqrt(probability * (1 - probability) / n)


# What all of them do


@every_layer
def test_without_training_the_very_input_comes_back(make: Callable[[], Identity]) -> None:
    layer, x, array = make(), normal(2, 4, 4, 3), np.ones((2, 4, 4, 3))
    state = torch.get_rng_state()
    assert layer.output(x) is layer.output(x, training=False) is layer.eval()(x) is x
    assert layer.output(array) is array
    network = Input((4, 4, 3)) >> make()
    assert network.output(x) is network.eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state)


@every_layer
def test_modes_and_flags(make: Callable[[], Identity]) -> None:
    layer, x = make(), normal(2, 4, 4, 3)
    network = Input((4, 4, 3)) >> layer
    results = []
    for run in (layer.train(), network.train()):
        torch.manual_seed(8)
        results.append(run(x))
    network.eval()
    for output in (layer.output, network.output):
        torch.manual_seed(8)
        results.append(output(x, training=True))
    assert not torch.equal(results[0], x)
    assert all(torch.equal(result, results[0]) for result in results)
    assert not layer.training
    # A layer that is frozen in a network which trains stays so.
    network.train()
    layer.eval()
    assert torch.equal(network(x), x)


@every_layer
@pytest.mark.parametrize("training", [True, False], ids=["traced in training", "traced in evaluation"])
def test_a_traced_network_follows_the_mode(make: Callable[[], Identity], training: bool) -> None:
    network, x = Input((4, 4, 3)) >> make(), normal(2, 4, 4, 3)
    traced: Any = torch.fx.symbolic_trace(network.train(training))
    nodes = [node for node in traced.graph.nodes if node.op == "call_module"]
    assert [traced.get_submodule(node.target) for node in nodes] == [network[1]]
    for mode in (not training, training):
        traced.train(mode)
        torch.manual_seed(8)
        result = traced(x)
        torch.manual_seed(8)
        assert torch.equal(result, network.output(x, training=mode))
        assert torch.equal(result, x) is not mode


@every_layer
@pytest.mark.parametrize("grad", [True, False])
def test_the_input_stays_as_it_was(make: Callable[[], Identity], grad: bool) -> None:
    x = normal(2, 4, 4, 3).requires_grad_(grad)
    before = x.detach().clone()
    result = make().output(x, training=True)
    assert torch.equal(x, before)
    assert result.data_ptr() != x.data_ptr()


@every_layer
@pytest.mark.parametrize("dtype", DTYPES)
def test_type_stays(make: Callable[[], Identity], dtype: torch.dtype) -> None:
    x = torch.ones(2, 4, 4, 3, dtype=dtype)
    result = make().output(x, training=True)
    assert (result.dtype, result.shape) == (dtype, x.shape)
    assert result.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make().output(x, training=True).dtype == dtype


@every_layer
def test_meta(make: Callable[[], Identity]) -> None:
    x = torch.empty(2, 4, 4, 3, device="meta")
    result = make().output(x, training=True)
    assert (result.device.type, result.shape) == ("meta", x.shape)


@every_layer
def test_derivatives(make: Callable[[], Identity]) -> None:
    layer = make()

    def run(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(2)
        return torch.as_tensor(layer.output(x, training=True))

    assert torch.autograd.gradcheck(run, normal(2, 4, 4, 2, dtype=torch.float64).requires_grad_())


@every_layer
def test_vmap_draws_for_each_sample(make: Callable[[], Identity]) -> None:
    layer = make()
    torch.manual_seed(0)
    x = torch.ones(6, 2, 4, 4, 3)
    result = torch.func.vmap(lambda image: layer.output(image, training=True), randomness="different")(x)
    assert result.shape == x.shape
    assert len({tuple(sample.flatten().tolist()) for sample in result}) == 6
    same = torch.func.vmap(lambda image: layer.output(image, training=True), randomness="same")(x)
    assert len({tuple(sample.flatten().tolist()) for sample in same}) == 1


@every_layer
def test_no_variables(make: Callable[[], Identity]) -> None:
    network = Input((4, 4, 3)) >> make()
    assert not network.variables and not network.state_dict() and network.is_built
    assert network.output_shape == (None, 4, 4, 3)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Dropout(0.5), "Dropout(proba=0.5, name='dropout-1')"),
        (lambda: Dropout(1), "Dropout(proba=1, name='dropout-1')"),
        (GaussianNoise, "GaussianNoise(mean=0, std=1, name='gaussian-noise-1')"),
        (lambda: GaussianNoise(0.5, 2), "GaussianNoise(mean=0.5, std=2, name='gaussian-noise-1')"),
        (lambda: DropBlock(0.9, 3), "DropBlock(keep_proba=0.9, block_size=(3, 3), name='drop-block-1')"),
        (DropBlock.define(1, [3, 2]), "DropBlock(keep_proba=1, block_size=[3, 2], name='drop-block-1')"),
        (lambda: Dropout(0.5, name="d{}"), "Dropout(proba=0.5, name='d1')"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_repr(make: Callable[[], Identity], text: str) -> None:
    assert repr(make()) == text


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Dropout(1.5), ValueError, r"`proba` should be between 0 and 1, got 1\.5 .*Dropout"),
        (lambda: Dropout(-0.1), ValueError, r"`proba` should be between 0 and 1, got -0\.1 .*Dropout"),
        (lambda: Dropout(math.nan), ValueError, "`proba` should be between 0 and 1, got nan .*Dropout"),
        (lambda: Dropout("a"), TypeError, "`proba`.* got 'a' .*Dropout"),  # type: ignore[arg-type]  # that is refused
        (lambda: GaussianNoise(std=-1), ValueError, "`std` should be between 0 and inf, got -1 .*GaussianNoise"),
        (lambda: GaussianNoise(std=math.nan), ValueError, "`std`.* got nan .*GaussianNoise"),
        (lambda: GaussianNoise("zero"), TypeError, "`mean`.* got 'zero' .*GaussianNoise"),  # type: ignore[arg-type]  # so is this
        (lambda: DropBlock(1.2, 3), ValueError, r"`keep_proba` should be between 0 and 1, got 1\.2 .*DropBlock"),
        (lambda: DropBlock(0.9, (3, 3, 3)), ValueError, r"`block_size`.* got \(3, 3, 3\) .*DropBlock"),  # type: ignore[arg-type]
        (lambda: DropBlock(0.9, 2.5), TypeError, r"`block_size`.* got 2\.5 .*DropBlock"),  # type: ignore[arg-type]
        (lambda: DropBlock(0.9, 0), ValueError, r"`block_size`.* got \(0, 0\) .*DropBlock"),
        (lambda: DropBlock(0.9, (3, -1)), ValueError, r"`block_size`.* got \(3, -1\) .*DropBlock"),
        (lambda: DropBlock(0.9, True), TypeError, r"`block_size`.*True.*DropBlock"),
    ],
)
def test_wrong_options(make: Callable[[], Identity], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
    # What was refused has taken no number.
    assert Dropout(0.1).name == "dropout-1" and GaussianNoise().name == "gaussian-noise-1"
    assert DropBlock(0.1, 1).name == "drop-block-1"


@pytest.mark.parametrize(
    "make, option, value, message",
    [
        (lambda: Dropout(0.5), "proba", 2, "`proba`.* got 2 .*'dropout-1'"),
        (GaussianNoise, "std", -2, "`std`.* got -2 .*'gaussian-noise-1'"),
        (lambda: DropBlock(0.5, 2), "block_size", (2, 0), r"`block_size`.* got \(2, 0\) .*'drop-block-1'"),
        (lambda: DropBlock(0.5, 2), "keep_proba", -1, "`keep_proba`.* got -1 .*'drop-block-1'"),
    ],
)
def test_wrong_value_assigned(make: Callable[[], Identity], option: str, value: Any, message: str) -> None:
    layer = make()
    before = layer.get_params()
    with pytest.raises(ValueError, match=message):
        setattr(layer, option, value)
    assert layer.get_params() == before


@pytest.mark.parametrize("proba", [True, 1, np.float32(0.5), np.float64(0.5), np.int64(0), 0.25])
def test_numbers_have_one_form(proba: Any) -> None:
    for value in (Dropout(proba).proba, GaussianNoise(proba, proba).mean, DropBlock(proba, 2).keep_proba):
        assert value == proba
        assert type(value) in (int, float)


# Dropout


def test_dropout_options() -> None:
    assert repr(Dropout.options) == (
        "{'name': Option(class_name='BaseLayer', value=Property(name=\"name\")), "
        "'proba': Option(class_name='Dropout', value=ProperFractionProperty(name=\"proba\"))}"
    )
    assert Dropout.proba is None


@pytest.mark.parametrize("dtype", DTYPES)
@UNTIMED
@given(
    proba=st.sampled_from([0, 0.2, 0.5, 0.9, 1, 1.0]),
    shape=st.lists(st.integers(0, 5), max_size=4),
    seed=st.integers(0, 2**32),
)
def test_dropout_is_torchs(dtype: torch.dtype, proba: float, shape: list[int], seed: int) -> None:
    x, layer = normal(*shape, dtype=dtype), Dropout(proba)
    torch.manual_seed(seed)
    expected = functional.dropout(x, proba, training=True)
    state = torch.get_rng_state()
    for run in (lambda: layer.output(x, training=True), lambda: layer.train()(x)):
        torch.manual_seed(seed)
        assert torch.equal(run(), expected)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("proba", [0.2, 0.75])
def test_dropout_share_and_scale(proba: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(300, 400, dtype=torch.float64)
    result = Dropout(proba).output(x, training=True)
    assert result.unique().tolist() == pytest.approx([0, 1 / (1 - proba)])
    assert within_five_errors((result == 0).double().mean().item(), proba, x.numel())


def test_dropout_of_nothing_and_of_everything() -> None:
    x = normal(4, 5).requires_grad_()
    assert torch.equal(Dropout(0).output(x, training=True), x)
    result = Dropout(1).output(x, training=True)
    result.sum().backward()
    assert x.grad is not None
    assert not result.any() and not x.grad.any()


def test_dropout_share_changed_later() -> None:
    layer, x = Dropout(1), torch.ones(3, 4)
    assert not layer.output(x, training=True).any()
    layer.proba = 0
    assert torch.equal(layer.output(x, training=True), x)


# GaussianNoise


def test_noise_defaults_are_those_promised() -> None:
    layer = GaussianNoise()
    assert (layer.mean, layer.std) == (0, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mean, std", [(0, 1), (0.5, 0.1), (-3, 20), (0, 0.01)])
def test_noise_is_normal(mean: float, std: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    x = normal(200_000, dtype=dtype)
    noise = (GaussianNoise(mean, std).output(x, training=True) - x).double()
    standard = (noise - mean) / std
    error = 5 / math.sqrt(len(x))
    assert abs(standard.mean()) < error
    assert abs((standard**2).mean() - 1) < error * math.sqrt(2)
    assert abs((standard**3).mean()) < error * math.sqrt(15)
    assert abs((standard**4).mean() - 3) < error * math.sqrt(96)
    # The noise knows neither the value it is added to nor its neighbour.
    assert abs((standard * x).mean()) < error
    assert abs((standard[1:] * standard[:-1]).mean()) < error


@pytest.mark.parametrize("mean", [0, 1, -0.25])
def test_noise_without_deviation_is_a_shift(mean: float) -> None:
    x = normal(4, 5)
    assert torch.equal(GaussianNoise(mean, std=0).output(x, training=True), x + mean)


def test_noise_derivative_is_one() -> None:
    x = normal(4, 5).requires_grad_()
    GaussianNoise(2, 3).output(x, training=True).sum().backward()
    assert x.grad is not None
    assert (x.grad == 1).all()


# DropBlock


def draw_masks(layer: DropBlock, *shape: int) -> torch.Tensor:
    """What was dropped, as (sample and channel, height, width)."""
    batch, height, width, channels = shape
    torch.manual_seed(0)
    dropped: torch.Tensor = layer.output(torch.ones(shape), training=True) == 0
    return dropped.permute(0, 3, 1, 2).reshape(batch * channels, height, width)


def draw(mask: torch.Tensor) -> list[str]:
    return ["".join(".#"[int(value)] for value in row) for row in mask]


@pytest.mark.parametrize(
    "size, first, last",
    [
        (2, ["##...", "##...", ".....", ".....", "....."], [".....", ".....", ".....", "...##", "...##"]),
        (3, ["###..", "###..", "###..", ".....", "....."], [".....", ".....", "..###", "..###", "..###"]),
        (4, ["####.", "####.", "####.", "####.", "....."], [".....", ".####", ".####", ".####", ".####"]),
    ],
)
def test_blocks_lie_where_neupys_do(size: int, first: list[str], last: list[str]) -> None:
    masks = draw_masks(DropBlock(0.9, size), 3000, 5, 5, 2)
    single = {tuple(draw(mask)) for mask in masks if mask.sum() == size * size}
    assert tuple(first) in single and tuple(last) in single
    # A block may lie anywhere inside the image, and is whole.
    expected = set()
    for row, column in np.ndindex(6 - size, 6 - size):
        mask = torch.zeros(5, 5)
        mask[row : row + size, column : column + size] = 1
        expected.add(tuple(draw(mask)))
    assert single == expected


@pytest.mark.parametrize(
    "block, image, keep", [((2, 3), (6, 5), 0.9), ((3, 1), (4, 4), 0.8), (2, (2, 2), 0.7), (1, (3, 4), 0.75)]
)
def test_dropped_is_a_union_of_blocks(block: Any, image: tuple[int, int], keep: float) -> None:
    height, width = (block, block) if isinstance(block, int) else block
    masks = draw_masks(DropBlock(keep, block), 500, *image, 2)
    for mask in masks:
        covered = torch.zeros_like(mask)
        for row, column in np.ndindex(image[0] - height + 1, image[1] - width + 1):
            window = slice(row, row + height), slice(column, column + width)
            if mask[window].all():
                covered[window] = True
        assert torch.equal(covered, mask)
    assert masks.any() and not masks.all()


@pytest.mark.parametrize(
    "keep, block, image",
    [
        (0.8, (2, 3), (10, 12)),
        (0.9, (3, 3), (5, 6)),
        (0.95, (1, 1), (4, 4)),
        (0.7, (2, 2), (2, 2)),
        (0.9, (4, 2), (4, 7)),
    ],
)
def test_seeds_have_the_papers_probability(keep: float, block: tuple[int, int], image: tuple[int, int]) -> None:
    (rows, columns), (height, width) = block, image
    n_seeds = (height - rows + 1) * (width - columns + 1)
    probability = (1 - keep) * height * width / (rows * columns * n_seeds)
    masks = draw_masks(DropBlock(keep, block), 4000, *image, 3)
    n = len(masks)
    # In the corners there is one seed alone that can drop the value; everywhere it is all seeds together.
    for corner in (masks[:, 0, 0], masks[:, -1, -1], masks[:, 0, -1]):
        assert within_five_errors(corner.double().mean().item(), probability, n)
    untouched = ~masks.flatten(1).any(dim=1)
    assert within_five_errors(untouched.double().mean().item(), (1 - probability) ** n_seeds, n)


@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_probabilities_in_low_precision(dtype: torch.dtype, default: torch.dtype) -> None:
    """Among the uniform numbers of bfloat16 one in 256 is zero, which is less than any probability."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    x = torch.ones(100, 40, 40, 4, dtype=dtype)
    try:
        torch.set_default_dtype(default)
        result = DropBlock(0.999, 1).output(x, training=True)
    finally:
        torch.set_default_dtype(before)
    assert within_five_errors((result == 0).double().mean().item(), 0.001, x.numel())


def test_share_recorded_from_neupy() -> None:
    torch.manual_seed(0)
    result = DropBlock(0.8, (2, 3)).output(torch.ones(50, 10, 12, 4), training=True)
    # NeuPy kept 0.814 of as many values, and its scale was the inverse.
    assert (result > 0).double().mean().item() == pytest.approx(0.814, abs=0.02)
    assert result.mean().item() == pytest.approx(1)


def test_samples_and_channels_are_on_their_own() -> None:
    masks = draw_masks(DropBlock(0.8, 3), 4000, 5, 5, 2).reshape(4000, 2, 25)
    touched = masks.any(dim=2).double()
    share = touched.mean().item()
    assert within_five_errors((touched[:, 0] * touched[:, 1]).mean().item(), share**2, 4000)
    assert within_five_errors((touched[1:, 0] * touched[:-1, 0]).mean().item(), share**2, 3999)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("keep, block", [(0.8, 2), (0.5, (1, 3)), (0.9, (4, 2))])
def test_scale_is_that_of_the_whole_batch(keep: float, block: Any, dtype: torch.dtype, tolerance: float) -> None:
    x = normal(7, 5, 6, 3).to(dtype)
    torch.manual_seed(4)
    mask = DropBlock(keep, block).output(torch.ones_like(x), training=True) != 0
    torch.manual_seed(4)
    found = DropBlock(keep, block).output(x, training=True)
    expected = x.double() * mask * (mask.numel() / int(mask.sum()))
    assert 0 < int(mask.sum()) < mask.numel()
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, block", [((3, 2, 2, 2), 2), ((1, 4, 4, 1), 4), ((2, 3, 5, 1), (3, 5))])
def test_nothing_kept_gives_zeros(shape: tuple[int, ...], block: Any, dtype: torch.dtype) -> None:
    x = normal(*shape).to(dtype).requires_grad_()
    result = DropBlock(0.0, block).output(x, training=True)
    result.sum().backward()
    assert x.grad is not None
    assert not result.any() and not x.grad.any()
    assert result.isfinite().all() and x.grad.isfinite().all()


def test_one_value_kept_of_many() -> None:
    """The scale is large then, but no less exact."""
    torch.manual_seed(0)
    x = torch.ones(1, 40, 40, 1)
    for _ in range(200):
        result = DropBlock(0.002, 1).output(x, training=True)
        if result.any():
            assert result.mean().item() == pytest.approx(1)


def test_everything_kept_changes_nothing() -> None:
    x = normal(3, 4, 5, 2)
    assert torch.equal(DropBlock(1, (2, 3)).output(x, training=True), x)
    assert torch.equal(DropBlock(1.0, 1).output(x, training=True), x)


@pytest.mark.parametrize("block", [5, (5, 1), (1, 5), (4, 6)])
def test_image_smaller_than_the_block_stays(block: Any) -> None:
    x = normal(2, 4, 4, 3)
    assert torch.equal(DropBlock(0.1, block).output(x, training=True), x)
    network = Input((None, None, 3)) >> DropBlock(0.1, block)
    assert torch.equal(network.output(x, training=True), x)
    assert not torch.equal(network.output(normal(2, 8, 8, 3), training=True), normal(2, 8, 8, 3))


def test_no_samples() -> None:
    x = torch.ones(0, 4, 4, 2)
    for layer in (DropBlock(0.5, 2), Dropout(0.5), GaussianNoise()):
        assert layer.output(x, training=True).shape == x.shape


@pytest.mark.parametrize("size", [3, np.int64(3), (3, 3), (np.int64(3), np.int32(3))])
def test_block_size_has_one_form(size: Any) -> None:
    layer = DropBlock(0.9, size)
    assert layer.block_size == (3, 3)
    assert [type(element) for element in layer.block_size] == [int, int]


@pytest.mark.parametrize("shape", [(), 10, (4, 3), (2, 4, 4, 3)])
def test_blocks_need_images(shape: Any) -> None:
    layer, source = DropBlock(0.9, 3), Input(shape)
    described = str(source.output_shape).replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    with pytest.raises(LayerConnectionError, match=rf"4 dimensions.* got .*{described}.*'drop-block-1'"):
        source >> layer
    assert layer.input_shape == TensorShape(None)
    assert (Input((4, 4, 3)) >> layer).output_shape == (None, 4, 4, 3)


@UNTIMED
@given(st.tuples(*[st.one_of(st.none(), st.integers(1, 9))] * 3))
def test_declared_shape_is_that_of_the_input(shape: tuple[int | None, ...]) -> None:
    for make in MAKERS.values():
        assert join(Input(shape), make()).output_shape == (None, *shape)
    assert DropBlock(0.5, 2).output_shape == TensorShape(None)
