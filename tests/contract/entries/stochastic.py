"""Layers that add noise while training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.contract.entries.pieces import ANY_IMAGE, ANY_MATRIX, same
from tests.contract.entry import Array, Case, Refused, Variant
from torchneupy.exceptions import LayerConnectionError


def is_drawn_for_each(values: Array, *axes: int) -> None:
    """Along none of the axes values are the same as their neighbours throughout, nor in most places."""
    for axis in axes or range(values.ndim):
        if values.shape[axis] > 1:
            assert np.diff(values.astype(float), axis=axis).any(axis=axis).mean() > 0.1, axis


def scales_what_it_keeps(proba: float) -> Callable[[Array, Array], None]:
    def check(x: Array, y: Array) -> None:
        kept = y != 0
        assert abs(kept.mean() - (1 - proba)) < 0.06  # of 3,000 values
        is_drawn_for_each(kept)
        np.testing.assert_allclose(y[kept], x[kept] / (1 - proba), rtol=1e-5)

    return check


def adds_noise(mean: float, std: float) -> Callable[[Array, Array], None]:
    def check(x: Array, y: Array) -> None:
        noise = y - x
        assert abs(noise.mean() - mean) <= 0.08 * std + 1e-6
        assert abs(noise.std() - std) <= 0.08 * std + 1e-6
        # Values of a normal distribution beyond one deviation, and beyond three.
        if std:
            is_drawn_for_each(noise)
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
        assert all(np.diff(kept.astype(int), axis=axis).any() for axis in (0, 3))
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


CASES: tuple[Case, ...] = (
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
)
