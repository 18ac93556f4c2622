"""A layer that looks values up in a table."""

from __future__ import annotations

from tests.contract.entries.pieces import SHAPES_OF_ARRAYS
from tests.contract.entry import Case, Refused, Variant
from torchneupy.exceptions import LayerConnectionError

CASES: tuple[Case, ...] = (
    Case(
        "Embedding",
        (
            Variant(
                "Embedding(7, 3)",
                (("steps",),),
                lambda v, x: v["weight"][x],
                {"weight": (7, 3)},
            ),
            Variant(
                "Embedding(input_size=5, output_size=1, weight=Normal())",
                (("steps", "words"),),
                lambda v, x: v["weight"][x],
                {"weight": (5, 1)},
            ),
            Variant(
                "Embedding(2, 3, weight=np.arange(6.0).reshape(2, 3))",
                ((),),
                lambda v, x: v["weight"][x],
                {"weight": (2, 3)},
                exempt=SHAPES_OF_ARRAYS,
            ),
        ),
        (
            Refused("Embedding(10)", TypeError, ("output_size",)),
            Refused("Embedding(0, 5)", ValueError, ("input_size", "0")),
            Refused("Embedding(5, 0)", ValueError, ("output_size", "0")),
            Refused("Embedding(5, 2.5)", TypeError, ("output_size", "2.5")),
            Refused("Embedding(5, 2, weight='table')", TypeError, ("weight", "'table'")),
            Refused(
                "Embedding(5, 2, weight=np.ones((2, 5)))", LayerConnectionError, ("weight", "(2, 5)", "(5, 2)"), ((4,),)
            ),
            Refused("Embedding(5, 2)", LayerConnectionError, ("1 input", "got 2", "(?, 4)", "(?, 3)"), ((4,), (3,))),
        ),
    ),
)
