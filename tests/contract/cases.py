"""What every layer of the library promises, told apart for each layer once: one entry of ``CASES``.

To add a layer, add an entry. Its variants are the layer made with different options; laws.py says what has to hold for
each. A law that cannot hold is exempted with a reason, and a test fails when it holds after all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tests.contract.entry import Array, Case, Reference, Refused, Shape, Variant
from torchneupy.exceptions import LayerConnectionError

# Mathematics in numpy


def same(values: Mapping[str, Array], x: Array) -> Array:
    return x


def dense(function: Callable[[Array], Array]) -> Reference:
    def apply(values: Mapping[str, Array], x: Array) -> Array:
        return function(x @ values["weight"] + values.get("bias", 0) if "weight" in values else x)

    return apply


def rectify(slope: float) -> Callable[[Array], Array]:
    return lambda x: np.where(x > 0, x, slope * x)


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def with_slopes(*axes: int) -> Reference:
    """PRelu; the axes of its slopes counted from the first, in the order in which the slopes have them."""

    def apply(values: Mapping[str, Array], x: Array) -> Array:
        x = dense(lambda product: product)(values, x)
        slopes: Array = np.einsum(values["alpha"], [*axes], sorted(axes))
        slopes = slopes.reshape([size if axis in axes else 1 for axis, size in enumerate(x.shape)])
        return np.where(x > 0, x, slopes * x)

    return apply


def each_row(function: Callable[..., Array]) -> Reference:
    """For a function of the inputs alone."""
    return lambda values, *inputs: function(*inputs)


# What training does


def scales_what_it_keeps(proba: float) -> Callable[[Array, Array], None]:
    def check(x: Array, y: Array) -> None:
        kept = y != 0
        assert abs(kept.mean() - (1 - proba)) < 0.06  # of 3,000 values
        np.testing.assert_allclose(y[kept], x[kept] / (1 - proba), rtol=1e-5)

    return check


def adds_noise(mean: float, std: float) -> Callable[[Array, Array], None]:
    def check(x: Array, y: Array) -> None:
        noise = y - x
        assert abs(noise.mean() - mean) <= 0.08 * std + 1e-6
        assert abs(noise.std() - std) <= 0.08 * std + 1e-6
        # Values of a normal distribution beyond one deviation, and beyond three.
        if std:
            far = np.abs(noise - mean) / std
            assert abs((far > 1).mean() - 0.317) < 0.04 and (far > 3).mean() < 0.01

    return check


def becomes_zero(x: Array, y: Array) -> None:
    assert not y.any()


def drops_blocks(keep: float, height: int, width: int) -> Callable[[Array, Array], None]:
    """What is dropped are whole blocks within the image, and what is kept is scaled by the share of what is kept."""

    def check(x: Array, y: Array) -> None:
        kept = y != 0
        np.testing.assert_allclose(y[kept], x[kept] / kept.mean(), rtol=1e-5)
        corners = np.lib.stride_tricks.sliding_window_view(~kept, (height, width), (1, 2)).all(axis=(-2, -1))
        rows, columns = corners.shape[1:3]
        covered = np.zeros_like(kept)
        for row in range(height):
            for column in range(width):
                covered[:, row : row + rows, column : column + columns] |= corners
        assert (covered == ~kept).all()
        # A value is kept if none of the blocks that would reach it begins.
        proba = (1 - keep) * x.shape[1] * x.shape[2] / (height * width * rows * columns)
        reaching = np.outer(np.convolve(np.ones(rows), np.ones(height)), np.convolve(np.ones(columns), np.ones(width)))
        np.testing.assert_allclose(kept.mean(axis=(0, 3)), (1 - proba) ** reaching, atol=0.08)

    return check


# Pieces that many entries share

ANY_MATRIX: tuple[Shape, ...] = (("features",),)
ANY_SEQUENCE: tuple[Shape, ...] = (("steps", "features"),)
ANY_IMAGE: tuple[Shape, ...] = (("height", "width", "channels"),)

SHAPES_OF_ARRAYS = {"repr_evaluates": "An array is shown by its shape"}


def weights(n_units: int, n_features: int | str = "features") -> dict[str, Shape]:
    return {"weight": (n_features, n_units), "bias": (n_units,)}


def activation(name: str, function: Callable[[Array], Array]) -> Case:
    """A layer that has no options but those of Linear."""
    return Case(
        name,
        (
            Variant(f"{name}(5)", ANY_MATRIX, dense(function), weights(5)),
            Variant(f"{name}()", ANY_SEQUENCE, dense(function)),
            Variant(
                f"{name}(2, weight=XavierUniform(), bias=None)",
                ANY_MATRIX,
                dense(function),
                {"weight": ("features", 2)},
            ),
        ),
        refused_by_dense(name),
    )


def refused_by_dense(name: str) -> tuple[Refused, ...]:
    return (
        Refused(f"{name}(0)", ValueError, ("n_units", "got 0")),
        Refused(f"{name}(2.5)", TypeError, ("n_units", "2.5")),
        Refused(f"{name}('5')", TypeError, ("n_units", "'5'")),
        Refused(f"{name}(5, weight='ones')", TypeError, ("weight", "'ones'")),
        Refused(f"{name}(5, weight=None)", TypeError, ("weight", "None")),
        Refused(f"{name}(5, bias=[0, 0])", TypeError, ("bias", "[0, 0]")),
        Refused(f"{name}(5, name=3)", TypeError, ("name", "3")),
        Refused(f"{name}(5, name='a{{}}b{{}}')", ValueError, ("a{}b{}",)),
        Refused(f"{name}(5)", LayerConnectionError, ("2 dimensions", "got 4", "(?, 8, 9, 3)"), ((8, 9, 3),)),
        Refused(f"{name}(5)", LayerConnectionError, ("got 1", "(?,)"), ((),)),
        Refused(f"{name}(5)", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        Refused(f"{name}(5, weight=np.ones((3, 4)))", LayerConnectionError, ("weight", "(3, 4)", "(3, 5)"), ((3,),)),
        Refused(f"{name}(5, bias=np.ones((5, 1)))", LayerConnectionError, ("bias", "(5, 1)", "(5,)"), ((3,),)),
    )


CASES: tuple[Case, ...] = (
    Case(
        "Input",
        (
            Variant("Input(3)", ((3,),), same),
            Variant("Input((4, None, 2))", ((4, "width", 2),), same),
            Variant("Input(None)", ANY_MATRIX, same),
            Variant("Input(())", ((),), same),
        ),
        (
            Refused("Input('10')", TypeError, ("shape", "'10'")),
            Refused("Input((28, 28.0, 1))", TypeError, ("shape", "(28, 28.0, 1)")),
            Refused("Input(True)", TypeError, ("shape", "True")),
            Refused("Input(-3)", ValueError, ("shape", "-3")),
            Refused("Input((4, 0))", ValueError, ("shape", "(4, 0)")),
            Refused("Input(5)", LayerConnectionError, ("(?, 10)", "(?, 5)"), ((10,),)),
            Refused("Input((4, 4))", LayerConnectionError, ("(?, 4, 4, 1)", "(?, 4, 4)"), ((4, 4, 1),)),
            Refused("Input(4)", LayerConnectionError, ("1 input", "got 2", "(?, 4)"), ((4,), (4,))),
        ),
    ),
    Case(
        "Identity",
        (
            Variant("Identity()", ANY_MATRIX, same),
            Variant("Identity(name='short')", ANY_IMAGE, same),
        ),
        (
            Refused("Identity(name=5)", TypeError, ("5",)),
            Refused("Identity(name='a{b}')", ValueError, ("'b'", "a{b}")),
            Refused("Identity()", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        ),
    ),
    Case(
        "Linear",
        (
            *activation("Linear", lambda x: x).variants,
            Variant(
                "Linear(1, weight=Normal(std=0.5), bias=Uniform(-1, 1), name='out-{:03d}')",
                ANY_MATRIX,
                dense(lambda x: x),
                weights(1),
            ),
            Variant(
                "Linear(2, weight=np.arange(6.0).reshape(3, 2), bias=0.5)",
                ((3,),),
                dense(lambda x: x),
                weights(2, 3),
                exempt=SHAPES_OF_ARRAYS,
            ),
        ),
        refused_by_dense("Linear"),
    ),
    activation("Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    activation("HardSigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    activation("Tanh", lambda x: 1 - 2 / (np.exp(2 * x) + 1)),
    activation("Softmax", softmax),
    activation("Softplus", lambda x: np.logaddexp(0, x)),
    activation("Elu", lambda x: np.where(x > 0, x, np.expm1(x))),
    activation("LeakyRelu", rectify(0.01)),
    Case(
        "Relu",
        (
            *activation("Relu", rectify(0)).variants,
            Variant("Relu(5, alpha=0.25)", ANY_MATRIX, dense(rectify(0.25)), weights(5)),
            Variant("Relu(alpha=2)", ANY_SEQUENCE, dense(rectify(2))),
        ),
        (
            *refused_by_dense("Relu"),
            Refused("Relu(5, alpha=-0.1)", ValueError, ("alpha", "-0.1")),
            Refused("Relu(5, alpha='0.1')", TypeError, ("alpha", "'0.1'")),
        ),
    ),
    Case(
        "PRelu",
        (
            Variant("PRelu(5)", ANY_MATRIX, with_slopes(1), {**weights(5), "alpha": (5,)}),
            Variant("PRelu()", ANY_SEQUENCE, with_slopes(2), {"alpha": ("features",)}),
            Variant("PRelu(alpha_axes=1)", ANY_SEQUENCE, with_slopes(1), {"alpha": ("steps",)}),
            Variant("PRelu(alpha_axes=(1, 3))", ANY_IMAGE, with_slopes(1, 3), {"alpha": ("height", "channels")}),
            Variant("PRelu(alpha_axes=[-1, 1])", ANY_IMAGE, with_slopes(3, 1), {"alpha": ("channels", "height")}),
            Variant(
                "PRelu(3, alpha=Uniform(0, 1), weight=0.5, bias=None)",
                ANY_MATRIX,
                with_slopes(1),
                {"weight": ("features", 3), "alpha": (3,)},
            ),
            Variant(
                "PRelu(3, alpha=torch.tensor([0.1, 0.2, 0.3]))",
                ANY_MATRIX,
                with_slopes(1),
                {**weights(3), "alpha": (3,)},
                exempt=SHAPES_OF_ARRAYS,
            ),
        ),
        (
            *refused_by_dense("PRelu"),
            Refused("PRelu(alpha_axes=0)", ValueError, ("alpha_axes", "0")),
            Refused("PRelu(alpha_axes=(0, 1))", ValueError, ("alpha_axes", "(0, 1)")),
            Refused("PRelu(alpha_axes='last')", TypeError, ("alpha_axes", "'last'")),
            Refused("PRelu(alpha='quarter')", TypeError, ("alpha", "'quarter'")),
            Refused("PRelu(alpha_axes=2)", LayerConnectionError, ("#2", "available axis is 1"), ((10,),)),
            Refused("PRelu(alpha_axes=-2)", LayerConnectionError, ("#-2", "batch"), ((10,),)),
            Refused("PRelu(alpha_axes=(1, -1))", LayerConnectionError, ("#1", "twice"), ((10,),)),
            Refused("PRelu(alpha=np.ones(3))", LayerConnectionError, ("alpha", "(3,)", "(10,)"), ((10,),)),
        ),
    ),
    Case(
        "Dropout",
        (
            Variant("Dropout(0.5)", ANY_MATRIX, same, check_training=scales_what_it_keeps(0.5), random=True),
            Variant("Dropout(proba=0.2)", ANY_IMAGE, same, check_training=scales_what_it_keeps(0.2), random=True),
            Variant("Dropout(0)", ANY_MATRIX, same),
            Variant("Dropout(1)", ANY_MATRIX, same, check_training=becomes_zero),
        ),
        (
            Refused("Dropout()", TypeError, ("proba",)),
            Refused("Dropout(1.5)", ValueError, ("proba", "between 0 and 1", "1.5")),
            Refused("Dropout(-0.1)", ValueError, ("proba", "between 0 and 1", "-0.1")),
            Refused("Dropout('0.5')", TypeError, ("proba", "'0.5'")),
            Refused("Dropout(None)", TypeError, ("proba", "None")),
            Refused("Dropout(0.5)", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        ),
    ),
    Case(
        "GaussianNoise",
        (
            Variant("GaussianNoise()", ANY_MATRIX, same, check_training=adds_noise(0, 1), random=True),
            Variant("GaussianNoise(mean=2, std=0.1)", ANY_IMAGE, same, check_training=adds_noise(2, 0.1), random=True),
            Variant("GaussianNoise(mean=-1, std=0)", ANY_MATRIX, same, check_training=adds_noise(-1, 0)),
        ),
        (
            Refused("GaussianNoise(std=-1)", ValueError, ("std", "-1")),
            Refused("GaussianNoise(mean='zero')", TypeError, ("mean", "'zero'")),
            Refused("GaussianNoise()", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        ),
    ),
    Case(
        "DropBlock",
        (
            Variant(
                "DropBlock(0.7, 2)",
                ANY_IMAGE,
                same,
                check_training=drops_blocks(0.7, 2, 2),
                random=True,
                sizes={"height": (2, 5), "width": (2, 5)},
            ),
            Variant(
                "DropBlock(0.8, block_size=(1, 3))",
                ANY_IMAGE,
                same,
                check_training=drops_blocks(0.8, 1, 3),
                random=True,
                sizes={"width": (3, 6)},
            ),
            Variant("DropBlock(keep_proba=1, block_size=[2, 1])", ANY_IMAGE, same),
            Variant("DropBlock(0, 2)", ((2, 2, "channels"),), same, check_training=becomes_zero),
            Variant("DropBlock(0.5, 9)", ANY_IMAGE, same),
        ),
        (
            Refused("DropBlock(0.9)", TypeError, ("block_size",)),
            Refused("DropBlock(1.2, 3)", ValueError, ("keep_proba", "1.2")),
            Refused("DropBlock('much', 3)", TypeError, ("keep_proba", "'much'")),
            Refused("DropBlock(0.9, (3, 3, 3))", ValueError, ("block_size", "(3, 3, 3)")),
            Refused("DropBlock(0.9, 0)", ValueError, ("block_size", "0")),
            Refused("DropBlock(0.9, 2.5)", TypeError, ("block_size", "2.5")),
            Refused("DropBlock(0.9, 3)", LayerConnectionError, ("4 dimensions", "got 2", "(?, 10)"), ((10,),)),
            Refused(
                "DropBlock(0.9, 3)", LayerConnectionError, ("1 input", "got 2", "(?, 4, 4, 1)"), ((4, 4, 1), (4, 4, 1))
            ),
        ),
    ),
    Case(
        "Elementwise",
        (
            Variant("Elementwise()", ANY_MATRIX * 2, each_row(lambda x, y: x + y)),
            Variant("Elementwise('multiply')", ANY_SEQUENCE * 3, each_row(lambda x, y, z: x * y * z)),
            Variant(
                "Elementwise(torch.maximum)",
                ANY_MATRIX * 2,
                each_row(np.maximum),
                exempt={"repr_evaluates": "A function is shown by its name"},
            ),
            Variant(
                "Elementwise(lambda x, y: x - 2 * y)",
                ANY_MATRIX * 3,
                each_row(lambda x, y, z: x - 2 * y - 2 * z),
                exempt={
                    "repr_evaluates": "A function is shown by its name",
                    "pickles": "Python cannot pickle a lambda",
                },
            ),
            Variant(
                "Elementwise(nn.Bilinear(4, 4, 4))",
                ((4,), (4,)),
                lambda v, x, y: np.einsum("bi,oij,bj->bo", x, v["merge_function.weight"], y) + v["merge_function.bias"],
                {"merge_function.weight": (4, 4, 4), "merge_function.bias": (4,)},
                exempt={"repr_evaluates": "A module of torch is shown under a name that is not imported"},
            ),
        ),
        (
            Refused("Elementwise('subtract')", ValueError, ("merge_function", "subtract", "add, multiply")),
            Refused("Elementwise(None)", ValueError, ("merge_function", "None", "add, multiply")),
            Refused("Elementwise(nn.Bilinear)", ValueError, ("merge_function", "Bilinear")),
            Refused("Elementwise()", LayerConnectionError, ("(?, 10)",), ((10,),)),
            Refused("Elementwise()", LayerConnectionError, ("(?, 10)", "(?, 9)"), ((10,), (9,))),
            Refused("Elementwise()", LayerConnectionError, ("(?, 4, 3)", "(?, 4)"), ((4, 3), (4, 3), (4,))),
        ),
    ),
    Case(
        "Concatenate",
        (
            Variant("Concatenate()", (("a",), ("b",)), each_row(lambda *xs: np.concatenate(xs, axis=-1))),
            Variant(
                "Concatenate(axis=1)",
                (("a", "n"), ("b", "n"), ("a", "n")),
                each_row(lambda *xs: np.concatenate(xs, axis=1)),
            ),
            Variant(
                "Concatenate(-2)", (("n", "a", "m"), ("n", "b", "m")), each_row(lambda *xs: np.concatenate(xs, axis=2))
            ),
            Variant("Concatenate()", ANY_MATRIX, same),
            Variant(
                "Concatenate(axis=0)",
                ANY_MATRIX * 2,
                each_row(lambda *xs: np.concatenate(xs, axis=0)),
                exempt={"sample_alone": "Its output has the samples of one input after those of the other"},
            ),
        ),
        (
            Refused("Concatenate(axis='last')", TypeError, ("axis", "'last'")),
            Refused("Concatenate(axis=1.5)", TypeError, ("axis", "1.5")),
            Refused("Concatenate(axis=2)", LayerConnectionError, ("axis 2", "(?, 3)"), ((3,), (3,))),
            Refused("Concatenate(axis=-3)", LayerConnectionError, ("axis -3", "(?, 3)"), ((3,),)),
            Refused("Concatenate()", LayerConnectionError, ("(?, 10)", "(?, 4, 10)"), ((10,), (4, 10))),
            Refused(
                "Concatenate()", LayerConnectionError, ("#2", "(?, 4, 4, 3)", "(?, 4, 5, 3)"), ((4, 4, 3), (4, 5, 3))
            ),
        ),
    ),
    Case(
        "ModuleLayer",
        (
            Variant(
                "ModuleLayer(nn.Linear(3, 2))",
                ((3,),),
                lambda v, x: x @ v["weight"].T + v["bias"],
                {"weight": (2, 3), "bias": (2,)},
                exempt={"repr_evaluates": "A module of torch is shown under a name that is not imported"},
            ),
            Variant(
                "ModuleLayer(nn.Sequential(nn.Dropout(0.5), nn.PReLU()), name='block')",
                ANY_IMAGE,
                lambda v, x: np.maximum(x, 0) + v["1.weight"] * np.minimum(x, 0),
                {"1.weight": (1,)},
                check_training=lambda x, y: scales_what_it_keeps(0.5)(x[x > 0], y[x > 0]),
                random=True,
                exempt={"repr_evaluates": "A module of torch is shown under a name that is not imported"},
            ),
            Variant(
                "ModuleLayer(Relu(4) >> Linear(2))",
                ANY_MATRIX,
                lambda v, x: (
                    np.maximum(x @ v["relu-1.weight"] + v["relu-1.bias"], 0) @ v["linear-1.weight"] + v["linear-1.bias"]
                ),
                {
                    "relu-1.weight": ("features", 4),
                    "relu-1.bias": (4,),
                    "linear-1.weight": (4, 2),
                    "linear-1.bias": (2,),
                },
                exempt={
                    "repr_evaluates": "A network is shown by its shapes",
                    "stays_what_was_asked_for": "A network is shown by its shapes, which become known",
                },
            ),
        ),
        (
            Refused("ModuleLayer(5)", TypeError, ("5",)),
            Refused("ModuleLayer(Linear(3))", LayerConnectionError, ("(?, 3, 4)", "2 dimensions"), ((3, 4),)),
            Refused(
                "ModuleLayer(Linear(3) >> Relu(2))",
                LayerConnectionError,
                ("1 input", "got 2", "(?, 4)", "(?, 3)"),
                ((4,), (3,)),
            ),
        ),
        not_recorded="NeuPy has no such layer",
    ),
)

VARIANTS: tuple[Variant, ...] = tuple(variant for case in CASES for variant in case.variants)
REFUSED: tuple[Refused, ...] = tuple(refused for case in CASES for refused in case.refused)
