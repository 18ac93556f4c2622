"""Parts about the programs that torch makes of a network."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch

from torchneupy.testing.parts.table import Parts, are_equal, ensure, go_back, have_equal_values, mode_of
from torchneupy.testing.subject import Subject, as_tuple, call

__all__ = ["PARTS"]

PARTS = Parts()


#: Numbers for the names of functions.
NUMBERS = itertools.count()


@contextmanager
def without_notes_of_the_compiler() -> Iterator[None]:
    """Compiling, without what torch warns of in its own code, and logs of what it cannot follow."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def function_of_its_own(network: Any) -> Any:
    """A function that calls a network, of code that no other has.

    What torch compiles, it keeps by the code. So this is compiled anew, and what the user has compiled stays, which
    ``torch.compiler.reset`` would throw away.
    """

    def compute(*inputs: torch.Tensor) -> Any:
        return network(*inputs)

    # Sizes that torch has seen, it keeps by the code's name and place in the file.
    code = compute.__code__.replace(co_name=f"compute_{next(NUMBERS)}")
    return FunctionType(code, globals(), closure=compute.__closure__)


@PARTS.add(
    "compile",
    "Leave out what a compiler cannot follow: `item()`, `numpy()`, `print`, branches that depend on values or sizes, "
    "attributes that `output` changes.",
)
def compiles(subject: Subject) -> None:
    """Compiled as one graph for any batch, it gives the same outputs and gradients, and changes the same."""
    network, twin = subject.again(), subject.again()
    with without_notes_of_the_compiler(), torch._dynamo.config.patch(error_on_recompile=True):
        for training in (True, False):
            quick = torch.compile(function_of_its_own(network.train(training)), fullgraph=True, backend="aot_eager")
            for batch in (11, 13):  # sizes of nothing else: torch takes equal sizes for one
                fed = subject.draw(batch)
                for x in fed:
                    torch._dynamo.mark_dynamic(x, 0)
                found, wanted = (call(one, fed) for one in (quick, twin.train(training)))
                what = f"Compiled, in {mode_of(training)}, for a batch of {batch}, another output comes out"
                are_equal(found, wanted, what, tolerance=1e-5)
                go_back(found)
                go_back(wanted)
            for (name, one), other in zip(network.named_parameters(), twin.parameters(), strict=True):
                if other.grad is not None:
                    ensure(one.grad is not None, f"Compiled, in {mode_of(training)}, no gradient reaches `{name}`")
                    are_equal([one.grad], [other.grad], f"Compiled, the gradient by `{name}` differs", tolerance=1e-4)
            what = f"Compiled, in {mode_of(training)}, a call changes something else"
            have_equal_values(network.state_dict(), twin.state_dict(), what, tolerance=1e-5)


@PARTS.add("export", "As for `compile`; and let no size but the batch depend on the batch.")
def exports(subject: Subject) -> None:
    """Exported by ``torch.export`` with the batch left open, it gives the same outputs."""
    network = subject.again().eval()
    with without_notes_of_the_compiler():
        program = torch.export.export(network, subject.draw(11), dynamic_shapes=network.dynamic_shapes())
        for batch in (2, 13):
            fed = subject.draw(batch)
            found = as_tuple(program.module()(*fed))
            are_equal(found, subject.run(network, fed), f"Exported, a batch of {batch} gives another output", 1e-5)
    ensure(program.state_dict.keys() == network.state_dict().keys(), "Exported, it has another state_dict")
