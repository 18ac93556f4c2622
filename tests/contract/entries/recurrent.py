"""Layers that carry a state from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.contract.entries.pieces import ANY_SEQUENCE
from tests.contract.entry import Array, Case, Reference, Refused, Shape, Variant
from torchneupy.exceptions import LayerConnectionError

UNITS = 4
#: The second input says how many of the steps count.
WITH_LENGTHS: tuple[Shape, ...] = (*ANY_SEQUENCE, ())

FUNCTIONS = {"repr_evaluates": "A function is shown by its name"}
FUNCTIONS_AND_CLIPPING = {**FUNCTIONS, "gradients": "The gradient is clipped on its way back"}


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm_step(
    ingate: Any = logistic, forgetgate: Any = logistic, outgate: Any = logistic, cell_function: Any = np.tanh
) -> Callable[..., tuple[Array, Array]]:
    def step(values: Mapping[str, Array], x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
        gates = x @ values["input_weights"] + hidden @ values["hidden_weights"] + values["biases"]
        i, f, g, o = np.split(gates, 4, axis=-1)
        i = i + cell * values.get("weight_cell_to_ingate", 0)
        f = f + cell * values.get("weight_cell_to_forgetgate", 0)
        cell = forgetgate(f) * cell + ingate(i) * cell_function(g)
        o = o + cell * values.get("weight_cell_to_outgate", 0)
        return outgate(o) * np.tanh(cell), cell

    return step


def gru_step(
    resetgate: Any = logistic, updategate: Any = logistic, hidden_update: Any = np.tanh
) -> Callable[..., tuple[Array, Array]]:
    def step(values: Mapping[str, Array], x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
        xr, xu, xc = np.split(x @ values["input_weights"] + values["biases"], 3, axis=-1)
        hr, hu, hc = np.split(hidden @ values["hidden_weights"], 3, axis=-1)
        share = updategate(xu + hu)
        return (1 - share) * hidden + share * hidden_update(xc + resetgate(xr + hr) * hc), cell

    return step


def run(step: Callable[..., tuple[Array, Array]], final: bool = True, backwards: bool = False) -> Reference:
    """One sequence after the other, one step after the other."""

    def of_one(values: Mapping[str, Array], sequence: Array, length: int) -> Array:
        hidden = values["hidden_init"][0]
        cell = values.get("cell_init", values["hidden_init"])[0]
        states = np.zeros((len(sequence), UNITS))
        places = range(length)
        for place in reversed(places) if backwards else places:
            hidden, cell = step(values, sequence[place], hidden, cell)
            states[place] = hidden
        return hidden if final else states

    def apply(values: Mapping[str, Array], x: Array, lengths: Array | None = None) -> Array:
        counted = np.full(len(x), x.shape[1]) if lengths is None else lengths
        outputs = [of_one(values, sequence, int(length)) for sequence, length in zip(x, counted, strict=True)]
        return np.array(outputs).reshape(len(x), *([] if final else [x.shape[1]]), UNITS)

    return apply


def lstm(learned: bool = False, peepholes: bool = False) -> dict[str, Any]:
    """Names and shapes of the variables, and which are buffers."""
    return described(4, ("cell_init", "hidden_init"), learned, ("ingate", "forgetgate", "outgate") if peepholes else ())


def gru(learned: bool = False) -> dict[str, Any]:
    return described(3, ("hidden_init",), learned, ())


def described(n_gates: int, states: tuple[str, ...], learned: bool, peepholes: tuple[str, ...]) -> dict[str, Any]:
    variables: dict[str, Shape] = {
        "input_weights": ("features", n_gates * UNITS),
        "hidden_weights": (UNITS, n_gates * UNITS),
        "biases": (n_gates * UNITS,),
        **dict.fromkeys(states, (1, UNITS)),
        **{f"weight_cell_to_{gate}": (UNITS,) for gate in peepholes},
    }
    return {"variables": variables, "buffers": () if learned else states}


def refused_by_recurrent(name: str, n_gates: int) -> tuple[Refused, ...]:
    return (
        Refused(f"{name}()", TypeError, ("n_units",)),
        Refused(f"{name}(0)", ValueError, ("n_units", "got 0")),
        Refused(f"{name}(2.5)", TypeError, ("n_units", "2.5")),
        Refused(f"{name}(4, only_return_final=1)", TypeError, ("only_return_final", "1")),
        Refused(f"{name}(4, learn_init='yes')", TypeError, ("learn_init", "'yes'")),
        Refused(f"{name}(4, backwards=None)", TypeError, ("backwards", "None")),
        Refused(f"{name}(4, unroll_scan=0)", TypeError, ("unroll_scan", "0")),
        Refused(f"{name}(4, gradient_clipping=-1)", ValueError, ("gradient_clipping", "-1")),
        Refused(f"{name}(4, input_weights='ones')", TypeError, ("input_weights", "'ones'")),
        Refused(f"{name}(4, hidden_init=[0, 0])", TypeError, ("hidden_init", "[0, 0]")),
        Refused(f"{name}(4, biases=None)", TypeError, ("biases", "None")),
        Refused(f"{name}(4)", LayerConnectionError, ("3 dimensions", "got 2", "(?, 10)"), ((10,),)),
        Refused(f"{name}(4)", LayerConnectionError, ("3 dimensions", "got 4", "(?, 4, 4, 3)"), ((4, 4, 3),)),
        Refused(f"{name}(4)", LayerConnectionError, ("1 dimension", "got 2", "(?, 1)"), ((4, 3), (1,))),
        Refused(f"{name}(4)", LayerConnectionError, ("1 to 2 input", "got 3", "(?, 4)"), ((4,), (4,), (4,))),
        Refused(
            f"{name}(4, hidden_weights=np.ones((4, 4)))",
            LayerConnectionError,
            ("hidden_weights", "(4, 4)", f"(4, {4 * n_gates})"),
            ((4, 3),),
        ),
        Refused(
            f"{name}(4, hidden_init=np.ones(4))", LayerConnectionError, ("hidden_init", "(4,)", "(1, 4)"), ((4, 3),)
        ),
    )


CASES: tuple[Case, ...] = (
    Case(
        "LSTM",
        (
            Variant("LSTM(4)", ANY_SEQUENCE, run(lstm_step()), **lstm(), exempt=FUNCTIONS),
            Variant(
                "LSTM(4, only_return_final=False, backwards=True, unroll_scan=True)",
                ANY_SEQUENCE,
                run(lstm_step(), final=False, backwards=True),
                **lstm(),
                exempt=FUNCTIONS,
            ),
            Variant(
                "LSTM(4, learn_init=True, cell_init=Normal(), hidden_init=0.5)",
                ANY_SEQUENCE,
                run(lstm_step()),
                **lstm(learned=True),
                exempt=FUNCTIONS,
            ),
            Variant(
                "LSTM(4, peepholes=True, cell_weights=Uniform(), backwards=True)",
                ANY_SEQUENCE,
                run(lstm_step(), backwards=True),
                **lstm(peepholes=True),
                exempt=FUNCTIONS,
            ),
            Variant(
                "LSTM(4, only_return_final=False)",
                WITH_LENGTHS,
                run(lstm_step(), final=False),
                **lstm(),
                exempt=FUNCTIONS,
            ),
            Variant(
                "LSTM(4, backwards=True)",
                WITH_LENGTHS,
                run(lstm_step(), backwards=True),
                **lstm(),
                exempt=FUNCTIONS,
            ),
            Variant(
                "LSTM(4, ingate=torch.tanh, forgetgate=nn.Hardsigmoid(), outgate=torch.cos, cell=torch.sin)",
                ANY_SEQUENCE,
                run(lstm_step(np.tanh, lambda x: np.clip(x / 6 + 0.5, 0, 1), np.cos, np.sin)),
                **lstm(),
                exempt=FUNCTIONS,
            ),
            Variant(
                "LSTM(4, gradient_clipping=0.001, only_return_final=False)",
                ANY_SEQUENCE,
                run(lstm_step(), final=False),
                **lstm(),
                exempt=FUNCTIONS_AND_CLIPPING,
            ),
        ),
        (
            *refused_by_recurrent("LSTM", 4),
            Refused("LSTM(4, ingate='sigmoid')", TypeError, ("ingate", "'sigmoid'")),
            Refused("LSTM(4, cell=nn.Tanh)", TypeError, ("cell", "Tanh")),
            Refused("LSTM(4, peepholes='all')", TypeError, ("peepholes", "'all'")),
            Refused("LSTM(4, bias=0)", TypeError, ("bias",)),
            Refused(
                "LSTM(4, peepholes=True, cell_weights=np.ones((1, 4)))",
                LayerConnectionError,
                ("weight_cell_to_ingate", "(1, 4)", "(4,)"),
                ((4, 3),),
            ),
        ),
    ),
    Case(
        "GRU",
        (
            Variant("GRU(4)", ANY_SEQUENCE, run(gru_step()), **gru(), exempt=FUNCTIONS),
            Variant(
                "GRU(4, only_return_final=False, backwards=True, unroll_scan=True)",
                ANY_SEQUENCE,
                run(gru_step(), final=False, backwards=True),
                **gru(),
                exempt=FUNCTIONS,
            ),
            Variant(
                "GRU(4, learn_init=True, hidden_init=np.ones((1, 4)))",
                ANY_SEQUENCE,
                run(gru_step()),
                **gru(learned=True),
                exempt=FUNCTIONS,
            ),
            Variant(
                "GRU(4, only_return_final=False, backwards=True)",
                WITH_LENGTHS,
                run(gru_step(), final=False, backwards=True),
                **gru(),
                exempt=FUNCTIONS,
            ),
            Variant("GRU(4)", WITH_LENGTHS, run(gru_step()), **gru(), exempt=FUNCTIONS),
            Variant(
                "GRU(4, resetgate=torch.tanh, updategate=nn.Hardsigmoid(), hidden_update=torch.sin)",
                ANY_SEQUENCE,
                run(gru_step(np.tanh, lambda x: np.clip(x / 6 + 0.5, 0, 1), np.sin)),
                **gru(),
                exempt=FUNCTIONS,
            ),
            Variant(
                "GRU(4, gradient_clipping=0.001, only_return_final=False)",
                ANY_SEQUENCE,
                run(gru_step(), final=False),
                **gru(),
                exempt=FUNCTIONS_AND_CLIPPING,
            ),
        ),
        (
            *refused_by_recurrent("GRU", 3),
            Refused("GRU(4, resetgate=None)", TypeError, ("resetgate", "None")),
            Refused("GRU(4, hidden_update='tanh')", TypeError, ("hidden_update", "'tanh'")),
            Refused("GRU(4, peepholes=True)", TypeError, ("peepholes",)),
        ),
    ),
)
