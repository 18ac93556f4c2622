"""Modules of torch, and networks, as layers."""

from __future__ import annotations

import numpy as np

from tests.contract.entries.pieces import ANY_IMAGE, ANY_MATRIX
from tests.contract.entries.stochastic import scales_what_it_keeps
from tests.contract.entry import Case, Refused, Variant
from torchneupy.exceptions import LayerConnectionError

CASES: tuple[Case, ...] = (
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
