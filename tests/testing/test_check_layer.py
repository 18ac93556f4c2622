"""Right layers of a user pass, and each bug is found by the right part."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from tests.testing import user_layers as user
from torchneupy.layers import Dropout, Relu
from torchneupy.testing import check_layer

SLOW = ["compile", "export"]


def broken_parts(error: BaseException) -> list[str]:
    """The parts of which a message tells."""
    return re.findall(r"^(\w+): .*\n(?:    .*\n)*?    To mend it: ", str(error), re.MULTILINE)


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: user.Projection(3), 4),
        (user.Noisy, (4, None)),
        (user.Running, (2, 3)),
        (lambda: nn.Conv1d(3, 2, 2), (3, None)),
        (lambda: Relu(4) >> Dropout(0.5), 3),
    ],
    ids=["variable", "random", "buffer", "module", "network"],
)
def test_right_layers_of_a_user_pass(make, shape):
    check_layer(make, shape)


@pytest.mark.parametrize(
    "make, shape, parts, message",
    [
        (lambda: user.OffByOne(3), 4, ["shape"], r"Declared is \(1, 4\), but \(1, 3\) comes out for inputs .*\(1, 4\)"),
        (lambda: user.WithoutShape(3), 4, ["shape"], r"No shape is declared, but \(1, 3\) comes out"),
        (lambda: user.Raising(3), 4, ["unknown_sizes"], r"get_output_shape fails for \(\?, \?\): TypeError"),
        (lambda: user.Hasty(3), 4, ["unknown_sizes"], r"size mismatch for hasty-\d+\.weight"),
        (
            lambda: user.PaddedOnOneSide((2, 2, 3)),
            (4, 5, 2),
            ["shape"],
            r"Declared is \(1, 3, 4, 3\), but \(1, 4, 5, 3\) comes out",
        ),
        (user.AlwaysNoisy, 4, ["evaluation", "inputs"], r"In evaluation mode two calls give different outputs"),
        (user.SelfWilled, 4, ["modes"], r"Called in training mode, and `output\(training=True\)` in evaluation mode"),
        (user.Stale, 4, ["dtypes", "meta", "moves"], r"meta"),
        (user.Hidden, 4, ["state_dict"], r"not in the state_dict: hidden-1.mean"),
        (user.Forgetful, 4, ["meta", "moves", "state_dict"], r"\.to\(\) leaves `forgetful-1.mean` behind"),
        (lambda: user.Detached(3), 4, ["gradients"], r"the gradient by `detached-1.weight` is wrong"),
        (user.InPlace, 4, ["inputs"], r"an input is changed"),
        (user.Strided, 4, ["inputs"], r"Of inputs that lie in memory in another order, something else is computed"),
        (
            user.OneType,
            4,
            ["dtypes", "gradients"],
            r"After .to\(torch.bfloat16\), in evaluation mode, torch.float32 comes out",
        ),
        (user.OnTheCpu, 4, ["meta", "moves"], r"meta"),
        (user.Unpicklable, 4, ["pickle"], r"lambda"),
        (user.Shared, 4, ["deepcopy"], r"The copy shares the memory of shared-1.gamma, shared-1.beta"),
    ],
    ids=[
        "off-by-one",
        "no-shape",
        "unknown-size",
        "early",
        "padding",
        "always-random",
        "own-mode",
        "stale",
        "not-persistent",
        "plain-attribute",
        "detached",
        "in-place",
        "strides",
        "one-type",
        "on-the-cpu",
        "lambda",
        "shared",
    ],
)
def test_a_bug_is_found(make: Callable[[], Any], shape: Any, parts: list[str], message: str):
    with pytest.raises(AssertionError, match=message) as caught:
        check_layer(make, shape, skip=SLOW)
    assert set(broken_parts(caught.value)) == set(parts)
