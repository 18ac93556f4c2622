"""The contract finds bugs: a copy of a layer of the library, with one planted in it, breaks what it should.

mutants.py plants many more, each in a copy of the whole package, which takes longer.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.contract.asking import is_kept
from tests.contract.cases import CASES
from tests.contract.entry import NAMES
from torchneupy import layers
from torchneupy.testing.parts import PARTS

#: What is asked: the public parts but for the slow ones, and the law that knows values.
QUICK = [*(name for name in PARTS if name not in ("cuda", "compile", "export")), "computes"]


class Bug(NamedTuple):
    """What is replaced in the source of a layer's module, and the parts and laws that notice it."""

    layer: str
    old: str
    new: str
    found_by: tuple[str, ...]


BUGS = {
    "padding on the wrong side": Bug(
        "Convolution",
        "functional.pad(image, (left, right, top, bottom))",
        "functional.pad(image, (right, left, bottom, top))",
        # That it computes something else only its entry knows.
        ("computes",),
    ),
    "forgotten training flag": Bug(
        "Dropout",
        "if not training:\n            return input\n        return by_value(functional.dropout,",
        "return by_value(functional.dropout,",
        ("computes", "evaluation", "inputs", "samples"),
    ),
    "buffer that stays behind": Bug(
        "GRU",
        "self.begin(self.hidden_init, input)[None]",
        'self.begin(vars(self).setdefault("_first", [self.hidden_init])[0], input)[None]',
        ("meta", "moves"),
    ),
    "shape off by one": Bug(
        "Relu",
        "return TensorShape((shape[0], self.n_units))",
        "return TensorShape((shape[0], self.n_units + 1))",
        ("shape",),
    ),
    "missing gradient": Bug(
        "Embedding", "torch.embedding(weight, indices)", "torch.embedding(weight.detach(), indices)", ("gradients",)
    ),
    "state that is not saved": Bug(
        "BatchNorm",
        'self.variable(None, "running_inv_std", shape=sizes, trainable=False)',
        'self.variable(None, "running_inv_std", shape=sizes, trainable=False)\n'
        "        self._non_persistent_buffers_set.update(self._buffers)",
        ("state_dict",),
    ),
}


def source_of(layer: str) -> str:
    return Path(inspect.getfile(getattr(layers, layer))).read_text()


def copied(layer: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a layer's entry make it of a copy of its module that has this source."""
    name = getattr(layers, layer).__module__ + "_copied"
    path = folder / "copied.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # pickle looks there
    spec.loader.exec_module(module)
    monkeypatch.setitem(NAMES, layer, getattr(module, layer))


def broken(layer: str, names: Iterable[str]) -> set[str]:
    """The parts and laws that a variant of a layer breaks, of those that it has to keep."""
    (case,) = [case for case in CASES if case.layer == layer]
    return {
        name
        for name in names
        if not all(is_kept(name, variant) for variant in case.variants if name not in variant.exempt)
    }


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_copy_without_a_bug_keeps_the_contract(bug, tmp_path, monkeypatch):
    copied(bug.layer, source_of(bug.layer), tmp_path, monkeypatch)
    assert broken(bug.layer, QUICK) == set()


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_bug_is_found(bug, tmp_path, monkeypatch):
    source = source_of(bug.layer)
    assert source.count(bug.old) == 1
    copied(bug.layer, source.replace(bug.old, bug.new), tmp_path, monkeypatch)
    assert broken(bug.layer, QUICK) == set(bug.found_by)
