"""What is asked of a use that has to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.contract.cases import VARIANTS
from tests.contract.entry import NAMES, Refused
from torchneupy.layers import Input, LayerGraph, PRelu, join, parallel
from torchneupy.layers.naming import reset_names


def state_of(layer: Any) -> Any:
    """All that a failed use could have changed."""
    inner = {name: repr(value) for name, value in vars(layer).items() if name not in ("_modules", "_parameters")}
    return repr(layer), inner, [(key, id(v), v.tolist()) for key, v in layer.state_dict(keep_vars=True).items()]


def raised_by(function: Callable[[], Any], error: type[Exception]) -> Exception:
    with pytest.raises(error) as caught:
        function()
    return caught.value


def name_of_next(class_name: str) -> str:
    """The name of a layer that is made now; of one that has no name of its own."""
    made = (v for v in VARIANTS if v.source.startswith(f"{class_name}(") and "name=" not in v.source)
    name: str = next(made).make().name
    return name


def is_refused(refused: Refused) -> None:
    """The error is of its class, names the layer (or its part) and the value, and leaves all as it was.

    A layer that stands before gets no variables, random numbers are not drawn, and no name is used up.
    """
    torch.manual_seed(5)
    class_name = refused.source.partition("(")[0]
    reset_names()
    if refused.inputs is None:
        name, generator = name_of_next(class_name), torch.get_rng_state()
        reset_names()
        error = raised_by(lambda: eval(refused.source, dict(NAMES)), refused.error)
        assert torch.equal(torch.get_rng_state(), generator)
        assert name_of_next(class_name) == name
        named = [class_name]
    else:
        layer = eval(refused.source, dict(NAMES))
        inputs, witnesses = [Input(shape) for shape in refused.inputs], [PRelu() for _ in refused.inputs]
        layers = [layer, *inputs, *witnesses]
        before, generator = [state_of(one) for one in layers], torch.get_rng_state()
        error = raised_by(lambda: join(parallel(*inputs), layer), refused.error)
        if all(refused.inputs):  # a witness needs features
            fed = [(x, [witness]) for x, witness in zip(inputs, witnesses, strict=True)]
            feeding = [(witness, [layer]) for witness in witnesses]
            raised_by(lambda: LayerGraph([*fed, *feeding]), refused.error)
        assert torch.equal(torch.get_rng_state(), generator)
        assert [state_of(one) for one in layers] == before
        named = [class_name, *(getattr(part, "name", layer.name) for part in layer.modules())]
    message = str(error)
    assert any(name in message for name in named), message
    missing = [text for text in refused.mentions if text not in message]
    assert not missing, message
