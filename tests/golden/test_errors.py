"""Bad uses that NeuPy 0.8.2 was recorded to refuse are refused here too, as early, in clear words, and leave no trace.

An entry of errors.json has an ``id``, the source (``build``), and what NeuPy does: at which ``stage`` it raises which
``exception`` with which ``message``. Lines ``# connect`` and ``# call`` in a source begin these stages; what precedes
them is ``construct``. A source sees everything of ``layers``, ``np``, and the modules in ``MODULES``. ``mentions`` is
ours: what a message has to contain, which is the layer and the values. To record more, run the source with NeuPy, whose
modules have the same names. The set grows with the layers.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from torchneupy import architectures, init, layers, storage
from torchneupy.core import config, properties

CASES = json.loads(Path(__file__).with_name("errors.json").read_text())
STAGES = ["construct", "connect", "call"]
MODULES = {"init": init, "properties": properties, "config": config, "storage": storage, "architectures": architectures}


def statements(source: str) -> Iterator[tuple[str, ast.stmt]]:
    """The statements of a source, each with its stage."""
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        before = [line[2:] for line in lines[: statement.lineno] if line.startswith("# ")]
        yield next((stage for stage in reversed(before) if stage in STAGES), "construct"), statement


def frozen(value: Any) -> Any:
    """Something that compares equal as long as a value is the same object with the same content."""
    if isinstance(value, torch.Tensor):
        # A different variable of the same numbers would be a change: an optimizer holds the old one.
        return id(value), value.requires_grad, value.detach().tolist()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return [(frozen(key), frozen(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [frozen(item) for item in value]
    if isinstance(value, (nn.Module, init.Initializer)):
        return id(value), repr(value)
    return repr(value)


def snapshot(thing: Any) -> dict[str, Any]:
    """All that an object shows of itself."""
    seen = {"repr": repr(thing)}
    if isinstance(thing, nn.Module):
        seen["training"] = frozen([module.training for module in thing.modules()])
        seen["state_dict"] = frozen(thing.state_dict(keep_vars=True))
        seen["is_built"] = frozen(thing.is_built)
    if isinstance(thing, layers.BaseLayer):
        seen["variables"] = frozen(dict(thing.variables))
        seen["shapes"] = frozen([thing.name, thing.original_name, thing.input_shape, thing.output_shape])
    if isinstance(thing, layers.LayerGraph):
        seen["graph"] = frozen([thing.forward_graph, thing.backward_graph, thing.layers, thing.layer_names_only()])
        seen["shapes"] = frozen([thing.input_shape, thing.output_shape, thing.output_shapes_per_layer])
        seen["layers"] = frozen([snapshot(layer) for layer in thing])
        seen["variables"] = frozen(thing.variables if thing.is_built else None)
    if isinstance(thing, config.BaseConfigurable):
        seen["options"] = frozen(thing.get_params())
    return seen


class Refusal(NamedTuple):
    """How a source ended: what was raised at which stage, and what its objects showed before and after."""

    stage: str
    error: Exception | None
    before: dict[str, Any]
    after: dict[str, Any]


def run(source: str) -> Refusal:
    names: dict[str, Any] = {name: getattr(layers, name) for name in layers.__all__}
    names.update(MODULES, np=np, __name__="case")
    given = set(names)

    def snapshots() -> dict[str, Any]:
        return {name: snapshot(thing) for name, thing in names.items() if name not in given and name != "__builtins__"}

    for stage, statement in statements(source):
        before = snapshots()
        try:
            exec(compile(ast.Module([statement], []), "case", "exec"), names)
        except Exception as error:  # noqa: BLE001  # whatever it is, the test judges it
            return Refusal(stage, error, before, snapshots())
    return Refusal("never", None, {}, {})


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    refusal = run(case["build"])
    assert case["exception"] in [base.__name__ for base in type(refusal.error).__mro__], repr(refusal.error)
    assert STAGES.index(refusal.stage) <= STAGES.index(case["stage"])
    message = str(refusal.error)
    missing = [text for text in case["mentions"] if not re.search(rf"(?<!\w){re.escape(text)}(?!\w)", message)]
    assert not missing, message
    assert refusal.after == refusal.before


def test_a_refused_constructor_takes_no_name() -> None:
    made_nothing = [c for c in CASES if c["build"].startswith("Relu(") and "\n" not in c["build"]]
    assert len(made_nothing) >= 8
    for case in made_nothing:
        assert run(case["build"]).stage == "construct", case["id"]
    assert layers.Relu().name == "relu-1"


# That the test would notice


def test_entries_are_complete() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert {case["stage"] for case in CASES} == set(STAGES)
    assert all(case["mentions"] and all(case["mentions"]) for case in CASES)


def test_stages() -> None:
    source = "a = 1\n# connect\nif a:\n    b = 2\n# call\nc = 3\nd = 4"
    assert [stage for stage, _ in statements(source)] == ["construct", "connect", "call", "call"]


def test_nothing_raised_is_noticed() -> None:
    assert run("relu = Relu(5)\n# connect\nInput(10) >> relu").stage == "never"


@pytest.mark.parametrize(
    "change",
    [
        "layer.name = 'other'",
        "layer.weight.data.zero_()",
        "layer.weight.requires_grad_(False)",
        "layer.weight = type(layer.weight)(layer.weight.data)",
        "layer.eval()",
        "network.eval()",
        "array[0] = 5",
        "plain.x = 4",
        "loose.set_params(weight=1)",
        "Input(3) >> loose",
        "loose.input_shape = (None, 7)",
    ],
)
def test_a_change_is_noticed(change: str) -> None:
    refusal = run(f"""
layer, loose, array = Linear(3), Linear(2), np.arange(3)
network = Input(4) >> layer >> Dropout(0.5)
class Plain(config.Configurable):
    x = properties.IntProperty(default=3)
plain = Plain()
if True:
    {change}
    raise ValueError
""")
    assert isinstance(refusal.error, ValueError)
    assert refusal.after != refusal.before
