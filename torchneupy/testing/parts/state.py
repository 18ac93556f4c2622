"""Parts about the state and about copies."""

from __future__ import annotations

import copy
import io
import pickle
import re
import warnings
from typing import Any

import torch

from torchneupy.testing.parts.table import Parts, are_equal, ensure, have_equal_values, mode_of
from torchneupy.testing.subject import Subject, all_tensors, copied_state, named_tensors

__all__ = ["PARTS"]

PARTS = Parts()


@PARTS.add(
    "state_dict",
    "Keep what changes or is drawn as a variable, `self.variable(..., trainable=False)`, or by `register_buffer` "
    "without `persistent=False`; a plain attribute is not in the state_dict.",
)
def comes_back_from_its_state(subject: Subject) -> None:
    """A new layer that gets the state, through a file, has the same values and computes the same."""
    trained, new = subject.again(), subject.fresh(seed=subject.seed + 1)
    for step in range(3):
        subject.run(trained, subject.draw(batch=4 + step), training=True, seed=step)
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Validating sparse tensor invariants")  # torch 2.14 says how long that takes
        new.load_state_dict(torch.load(file, weights_only=True))
    have_equal_values(new.state_dict(), trained.state_dict(), "After load_state_dict")
    lost = [name for name, _ in trained.named_buffers() if name not in trained.state_dict()]
    lost += [name for name, _ in named_tensors(trained)]
    hint = f" (not in the state_dict: {', '.join(lost)})" if lost else ""
    for training in (False, True):
        what = f"After load_state_dict, in {mode_of(training)}, a new one computes something else{hint}"
        are_equal(subject.run(new, training=training), subject.run(trained, training=training), what)


@PARTS.add(
    "deepcopy",
    "Let a copy have its own tensors: keep none in closures, in class attributes, or in a `__deepcopy__` of your own.",
)
def has_copies_of_its_own(subject: Subject) -> None:
    """A deep copy is and computes the same, and shares nothing."""
    before, wanted = copied_state(subject.network), subject.run()
    twin, other = copy.deepcopy(subject.network), copy.deepcopy(subject.network)
    ours = set(filter(None, (address_of(value) for _, value in all_tensors(subject.network))))
    shared = [name for name, value in all_tensors(twin) if address_of(value) in ours]
    ensure(not shared, f"The copy shares the memory of {', '.join(shared)}")
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.is_floating_point():
                parameter.add_(1)
    subject.run(other, training=True)
    are_equal(subject.run(), wanted, "The original changes with its copy")
    have_equal_values(subject.network.state_dict(), before, "The original changes with its copy")
    is_the_same(subject, twin, "The copy")


@PARTS.add(
    "pickle",
    "Define the class, and the functions that it is given, at the top level of a module: pickle finds them by name.",
)
def comes_back_from_pickle(subject: Subject) -> None:
    """It can be pickled, and what comes back is and computes the same."""
    is_the_same(subject, pickle.loads(pickle.dumps(subject.network)), "What comes back")


def address_of(value: torch.Tensor) -> int | None:
    """Where a tensor's memory begins, if it has any: sparse ones have several."""
    return value.data_ptr() if value.layout is torch.strided and value.numel() else None


#: How the default repr of an object, an option perhaps, ends.
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def is_the_same(subject: Subject, twin: Any, what: str) -> None:
    """A copy of the network has equal reprs, modes and values, and computes the same; training mode last."""
    for found, wanted in zip(twin, subject.network, strict=True):
        text = f"{what} is {found!r}, not {wanted!r}"
        ensure(ADDRESS.sub("", repr(found)) == ADDRESS.sub("", repr(wanted)), text)
        ensure(found.training is wanted.training, f"{what} is in {mode_of(found.training)}")
    have_equal_values(twin.state_dict(), subject.network.state_dict(), what)
    for training in (False, True):
        found, wanted = (subject.run(one, training=training) for one in (twin, subject.network))
        are_equal(found, wanted, f"{what} computes something else, in {mode_of(training)}")
    have_equal_values(twin.state_dict(), subject.network.state_dict(), f"{what}, after a call in training mode")
