"""Replays recorded computations of NeuPy 0.8.2, and says what torchneupy does differently.

``dev/`` holds what the real NeuPy computed for small networks: ``cases.json`` with an entry for each, and an .npz file
of its arrays. The set grows with the layers: a case comes here together with the last layer that it needs.

Recording
---------
A case is recorded with NeuPy 0.8.2 on a TensorFlow that still has the interface of TensorFlow 1. Run the case's source
there with everything of ``neupy.layers``, ``init``, ``np``, ``rng`` and a counterpart of ``OPS``; give the variables
values of a sensible size; store what is listed below. Leave out what is not finite or differs from run to run.

An entry has the ``id``, the source (``build``: an expression, or statements that assign ``network``), the ``seed`` of
``rng``, the ``layers`` that it needs, the ``repr`` of the network, ``layer_reprs`` in topological order before anything
is computed, ``input_shape``, ``output_shape``, ``n_parameters``, ``inputs`` (type and shape), ``variables`` (layer's
name, name, shape, whether trainable, initial value: a number if it is constant, ``"array"`` if it is in the .npz, null
if it is random), and ``training``: ``"same"`` as without, ``"recorded"``, or ``"none"``, where it is random. Numbers of
automatic names are ``#``; functions are ``<function>``. Optional are ``tolerance`` and ``gradient_tolerance``, as
``[rtol, atol]``.

An .npz file has, N counting inputs, variables or outputs from 0 in NeuPy's order:

``input.N``, ``value.N``, ``coefficient.N``
    Inputs, values given to the variables, and one random array for each output.
``initial.N``
    Initial values that are arrays.
``output.N``
    Outputs for ``training=False``.
``gradient.input.N``, ``gradient.value.N``
    Gradients of ``sum(output * coefficient)``; what is absent is zero.
``other_input.N``, ``other_output.N``
    The same network for another batch, and for other sizes where they are unknown.
``training_output.N``, ``training_gradient.input.N``, ``training_gradient.value.N``
    For ``training=True``, where it differs.
``after.N``
    Variables that one call with ``training=True`` changes.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from torchneupy import init, layers

FOLDER = Path(__file__).parent / "dev"

#: rtol and atol, where a case does not say otherwise.
TOLERANCE = (1e-4, 1e-5)

#: Functions that cases hand to layers; when they were recorded, these were TensorFlow's.
OPS = SimpleNamespace(
    clip=torch.clamp,
    elu=functional.elu,
    maximum=torch.maximum,
    reduce_max=lambda x, axis: torch.amax(x, dim=axis),
    reduce_mean=lambda x, axis: torch.mean(x, dim=axis),
    softplus=functional.softplus,
    square=torch.square,
    tanh=torch.tanh,
    variable=lambda array: nn.Parameter(torch.as_tensor(array, dtype=torch.float32)),
)


class Difference(NamedTuple):
    """Something that is not as it was recorded; ``size`` tells how far off numbers are."""

    where: str
    what: str
    size: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.size})" if self.size else "")


def read_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((FOLDER / "cases.json").read_text())
    return cases


def read_arrays(case: dict[str, Any]) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{case['id']}.npz") as stored:
        return dict(stored)


def build(source: str, seed: int) -> Any:
    """Run a case's source with the names that it expects."""
    names: dict[str, Any] = {name: getattr(layers, name) for name in dir(layers) if not name.startswith("_")}
    names.update(init=init, ops=OPS, np=np, rng=np.random.RandomState(seed), __name__="case")
    source = textwrap.dedent(source).strip()
    try:
        code = compile(source, "case", "eval")
    except SyntaxError:
        exec(compile(source, "case", "exec"), names)
        return names["network"]
    return eval(code, names)


def simplify(text: str) -> str:
    """A repr without what may differ: numbers in automatic names, functions, what a shared variable is called."""
    text = re.sub(r"<(?:function|built-in|bound) .*?(?<!<lambda)(?<!<locals)>", "<function>", text)
    text = re.sub(r"<(?:Parameter|Tensor) shape=", "<Variable shape=", text)
    return re.sub(r"(?<=[a-z]-)\d+(?='|$)", "#", text)


def format_shape(shape: Any) -> str:
    return f"[{', '.join(map(format_shape, shape))}]" if isinstance(shape, list) else str(shape)


def describe(network: Any) -> dict[str, Any]:
    """What a network says about itself, under the keys of an entry."""
    return {
        "repr": repr(network),
        "layer_reprs": [simplify(repr(layer)) for layer in network],
        "input_shape": format_shape(network.input_shape),
        "output_shape": format_shape(network.output_shape),
        "n_parameters": network.n_parameters,
        "variables": [
            [simplify(layer.name), name, list(variable.shape), is_trainable(variable)]
            for (layer, name), variable in network.variables.items()
        ],
    }


def is_trainable(variable: torch.Tensor) -> bool:
    return isinstance(variable, nn.Parameter) and variable.requires_grad


def values_of(network: Any) -> list[np.ndarray]:
    return [variable.detach().numpy().copy() for variable in network.variables.values()]


def give_values(network: Any, values: Sequence[np.ndarray]) -> None:
    with torch.no_grad():
        for variable, value in zip(network.variables.values(), values, strict=True):
            variable.copy_(torch.as_tensor(value))


def compute(network: Any, inputs: Sequence[np.ndarray], training: bool) -> list[np.ndarray]:
    outputs = network.output(*map(torch.tensor, inputs), training=training)
    return [output.detach().numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def differentiate(
    network: Any, inputs: Sequence[np.ndarray], training: bool, coefficients: Sequence[np.ndarray]
) -> list[np.ndarray | None]:
    """Gradients of ``sum(output * coefficient)`` by each input and each variable; None where there is none."""
    tensors = [torch.tensor(array) for array in inputs]
    targets = [x.requires_grad_() if x.is_floating_point() else None for x in tensors]
    targets += [variable if is_trainable(variable) else None for variable in network.variables.values()]
    outputs = network.output(*tensors, training=training)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    pairs = zip(outputs, coefficients, strict=True)
    loss = torch.stack([(output * torch.as_tensor(coefficient)).sum() for output, coefficient in pairs]).sum()
    wanted = [target for target in targets if target is not None]
    if not wanted or not loss.requires_grad:
        return [None] * len(targets)
    found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
    gradients = [None if target is None else next(found) for target in targets]
    return [None if gradient is None else gradient.numpy() for gradient in gradients]


class Replay:
    """One case, replayed; ``differences`` are those from its record."""

    def __init__(self, case: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.case, self.arrays = case, arrays
        self.differences: list[Difference] = []
        torch.manual_seed(case["seed"])
        network = build(case["build"], case["seed"])
        self.compare_descriptions(describe(network))
        if len(network.variables) == len(case["variables"]):
            self.compare_initial_values(values_of(network))
            self.compare_computations(network)

    def stored(self, prefix: str) -> list[np.ndarray]:
        keys = [key for key in self.arrays if re.fullmatch(re.escape(prefix) + r"\.\d+", key)]
        return [self.arrays[key] for key in sorted(keys, key=lambda key: int(key.rpartition(".")[2]))]

    def same(self, where: str, found: Any, recorded: Any) -> None:
        if isinstance(found, list) and len(found) == len(recorded):
            for index, pair in enumerate(zip(found, recorded, strict=True)):
                if pair[0] != pair[1]:
                    self.differences.append(Difference(f"{where}.{index}", f"{pair[0]} instead of {pair[1]}"))
        elif found != recorded:
            self.differences.append(Difference(where, f"{found} instead of {recorded}"))

    def close(self, where: str, found: np.ndarray, recorded: np.ndarray, tolerance: Any = None) -> None:
        rtol, atol = tolerance or self.case.get("tolerance", TOLERANCE)
        kind, expected = f"{found.dtype}{list(found.shape)}", f"{recorded.dtype}{list(recorded.shape)}"
        if kind != expected:
            self.differences.append(Difference(where, f"{kind} instead of {expected}"))
        elif not np.allclose(found, recorded, rtol=rtol, atol=atol):
            error = np.abs(found - recorded).max()
            self.differences.append(Difference(where, "other values", f"max abs error {error:.3g}"))

    def all_close(self, where: str, found: Sequence[np.ndarray], recorded: Sequence[np.ndarray]) -> None:
        self.same(f"number of {where}", len(found), len(recorded))
        for index, pair in enumerate(zip(found, recorded, strict=False)):
            self.close(f"{where}.{index}", *pair)

    def compare_descriptions(self, description: dict[str, Any]) -> None:
        recorded = {**self.case, "variables": [variable[:4] for variable in self.case["variables"]]}
        for what, found in description.items():
            self.same(what, found, recorded[what])

    def compare_initial_values(self, values: list[np.ndarray]) -> None:
        for index, (value, (*_, shape, _, initial)) in enumerate(zip(values, self.case["variables"], strict=True)):
            if initial == "array":
                self.close(f"initial.{index}", value, self.arrays[f"initial.{index}"])
            elif initial is not None:
                self.close(f"initial.{index}", value, np.full(shape, initial, np.float32))

    def compare_gradients(self, prefix: str, gradients: list[np.ndarray | None]) -> None:
        n_inputs = len(self.case["inputs"])
        for index, gradient in enumerate(gradients):
            where = f"{prefix}.input.{index}" if index < n_inputs else f"{prefix}.value.{index - n_inputs}"
            recorded = self.arrays.get(where)
            some = recorded if gradient is None else gradient
            if some is not None:
                # None and zeros are the same.
                found, expected = (np.zeros_like(some) if array is None else array for array in (gradient, recorded))
                self.close(where, found, expected, self.case.get("gradient_tolerance"))

    def compare_computations(self, network: Any) -> None:
        training, values = self.case["training"], self.stored("value")
        inputs, coefficients = self.stored("input"), self.stored("coefficient")
        give_values(network, values)
        self.all_close("output", compute(network, inputs, False), self.stored("output"))
        self.compare_gradients("gradient", differentiate(network, inputs, False, coefficients))
        if self.stored("other_input"):
            outputs = compute(network, self.stored("other_input"), False)
            self.all_close("other_output", outputs, self.stored("other_output"))
        if training == "none":
            return
        recorded = self.stored("output" if training == "same" else "training_output")
        self.all_close("training_output", compute(network, inputs, True), recorded)
        for index, (value, before) in enumerate(zip(values_of(network), values, strict=True)):
            self.close(f"after.{index}", value, self.arrays.get(f"after.{index}", before))
        if training == "recorded":
            give_values(network, values)
            self.compare_gradients("training_gradient", differentiate(network, inputs, True, coefficients))
