"""Right layers of a user pass, and each bug is found by the right part."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import nn

from tests.testing import user_layers as user
from torchneupy.layers import Dropout, Input, Relu
from torchneupy.testing import check_layer
from torchneupy.testing.parts import PARTS

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
        (user.Stepping, 4),
        (lambda: nn.Conv1d(3, 2, 2), (3, None)),
        (lambda: Relu(4) >> Dropout(0.5), 3),
    ],
    ids=["variable", "random", "buffer", "steps", "module", "network"],
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
        (
            user.AlwaysNoisy,
            4,
            ["evaluation", "inputs", "samples"],
            r"In evaluation mode two calls give different outputs",
        ),
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
        (user.Undecided, 4, ["shape"], r"Declared is \(\?, \?\), but \(1, 4\) comes out"),
        (user.Drawing, 4, ["evaluation"], "In evaluation mode random numbers are drawn"),
        (user.Counting, 4, ["deepcopy", "evaluation"], "In evaluation mode a value changes: `counting-1.n_calls`"),
        (user.Centring, 4, ["samples"], "In evaluation mode something else comes out for a sample alone"),
        (user.Gapless, 4, ["inputs"], "Of inputs that lie in memory with gaps, something else is computed"),
        (
            lambda: user.Normalizing(3),
            4,
            ["deepcopy", "evaluation", "gradients", "inputs"],
            "A call changes a parameter: `normalizing-1.weight`",
        ),
        (
            lambda: user.DetachedInTraining(3),
            4,
            ["gradients"],
            "In training mode the gradient by `detached-in-training-1.weight` is wrong",
        ),
        (user.HiddenInTraining, 4, ["state_dict"], "After load_state_dict, in training mode, a new one computes"),
        (user.Unsaved, 4, ["meta", "state_dict", "unknown_sizes"], "in evaluation mode, a new one computes something"),
        (user.Renamed, 4, ["deepcopy"], r"The copy is Renamed\(name='copy of renamed-\d+'\), not Renamed"),
        (user.Waking, 4, ["deepcopy"], "The copy is in training mode"),
        (user.Plain, 4, ["dtypes", "meta", "moves"], r"After .to\(torch.float64\), of another type: plain-1.constant"),
        (lambda: user.SingleParameter(3), 4, ["dtypes"], "Made where float64 is torch's default type, of another type"),
        (lambda: user.Rounding(3), 4, ["gradients"], "`float\\(\\)` rounds what is differentiated"),
        (user.Closed, 4, ["meta"], r"On meta the shape is \(3, 1\), elsewhere \(3, 4\)"),
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
        "undecided",
        "drawing",
        "counting",
        "centring",
        "gaps",
        "own-parameter",
        "detached-in-training",
        "in-training",
        "unsaved",
        "renamed",
        "waking",
        "plain-constant",
        "one-type-of-parameter",
        "lower-precision",
        "meta-shape",
        "shared",
    ],
)
def test_a_bug_is_found(make: Callable[[], Any], shape: Any, parts: list[str], message: str):
    with pytest.raises(AssertionError, match=message) as caught:
        check_layer(make, shape, skip=SLOW)
    assert set(broken_parts(caught.value)) == set(parts)


def test_a_bug_that_the_compiler_alone_shows():
    message = "Compiled, in training mode, no gradient reaches `compiled-1.weight`"
    with pytest.raises(AssertionError, match=message) as caught:
        check_layer(lambda: user.Compiled(3), 4)
    assert broken_parts(caught.value) == ["compile"]


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_what_the_user_has_compiled_stays():
    counted = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(Input(3) >> Relu(2), backend=counted)
    for _ in range(2):
        compiled(torch.zeros(2, 3))
        check_layer(lambda: Relu(2), 3, skip=set(PARTS) - set(SLOW))
    assert counted.frame_count == 1
