"""What every layer of the library promises, told apart for each layer once: one entry of ``CASES``.

To add a layer, add an entry to the file in entries/ that has the name of the layer's module. Its variants are the layer
made with different options; laws.py says what has to hold for each. A law that cannot hold is exempted with a reason,
and a test fails when it holds after all.
"""

from __future__ import annotations

from tests.contract.entries import (
    activations,
    adapters,
    base,
    convolutions,
    embedding,
    merging,
    normalization,
    pooling,
    recurrent,
    reshape,
    stochastic,
)
from tests.contract.entry import Case, Refused, Variant

CASES: tuple[Case, ...] = (
    *base.CASES,
    *activations.CASES,
    *stochastic.CASES,
    *merging.CASES,
    *convolutions.CASES,
    *pooling.CASES,
    *normalization.CASES,
    *reshape.CASES,
    *embedding.CASES,
    *recurrent.CASES,
    *adapters.CASES,
)

VARIANTS: tuple[Variant, ...] = tuple(variant for case in CASES for variant in case.variants)
REFUSED: tuple[Refused, ...] = tuple(refused for case in CASES for refused in case.refused)
