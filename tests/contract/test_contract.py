"""Every layer of the library keeps the public contract, part by part, and every law.

cases.py describes the layers, ``torchneupy.testing`` has the parts of the contract, laws.py has the laws.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import pytest

from tests.contract.asking import ask, is_kept
from tests.contract.cases import CASES, REFUSED, VARIANTS
from tests.contract.entry import Refused, Variant
from tests.contract.laws import LAWS, ON_CUDA
from tests.contract.refusal import is_refused
from tests.golden.replay import read_cases
from torchneupy import layers
from torchneupy.testing.parts import PARTS

NEEDING_CUDA = {"cuda", *ON_CUDA}


def question(name: str, variant: Variant) -> Any:
    """A part or a law, and a variant that is asked."""
    return pytest.param(name, variant, id=f"{name}-{variant}", marks=[pytest.mark.cuda] if name in NEEDING_CUDA else [])


def questions(names: Iterable[str]) -> list[Any]:
    """Each part or law, and each variant that has to keep it."""
    return [question(name, variant) for name in names for variant in VARIANTS if name not in variant.exempt]


@pytest.mark.parametrize("name, variant", questions(PARTS))
def test_part(name: str, variant: Variant) -> None:
    ask(name, variant)


@pytest.mark.parametrize("name, variant", questions(LAWS))
def test_law(name: str, variant: Variant) -> None:
    ask(name, variant)


@pytest.mark.parametrize("refused", REFUSED, ids=str)
def test_bad_use(refused: Refused) -> None:
    is_refused(refused)


# Each layer has its entry, and no entry has more than it needs.


@pytest.mark.parametrize("name, variant", [question(name, variant) for variant in VARIANTS for name in variant.exempt])
def test_exemption_is_needed(name: str, variant: Variant) -> None:
    assert variant.exempt[name]
    assert not is_kept(name, variant)


def layer_classes(base: type = layers.BaseLayer) -> set[type]:
    """All classes of layers in the library."""
    subclasses: list[Any] = base.__subclasses__()
    own = {one for one in subclasses if one.__module__.startswith(f"{layers.__name__}.")}
    return own.union(*map(layer_classes, own))


def test_every_public_layer_has_one_entry() -> None:
    exported: list[Any] = [getattr(layers, name) for name in layers.__all__]
    public = {one for one in exported if inspect.isclass(one) and issubclass(one, layers.BaseLayer)}
    public.remove(layers.BaseLayer)  # it computes nothing
    assert sorted(case.layer for case in CASES) == sorted(one.__name__ for one in public)
    # What others derive from and nobody makes; every other class is public.
    assert {one.__name__ for one in layer_classes() - public} == {"BasePooling", "BaseRNNLayer", "ImageLayer"}


@pytest.mark.parametrize("case", CASES, ids=[case.layer for case in CASES])
def test_entry_is_of_its_layer(case: Any) -> None:
    cls = getattr(layers, case.layer)
    assert [type(variant.make()) for variant in case.variants] == [cls] * len(case.variants)
    assert {refused.source.partition("(")[0] for refused in case.refused} == {case.layer}
    assert any(refused.inputs is not None for refused in case.refused)
    # Random outputs are no use unless something is said of them.
    assert all(variant.check_training for variant in case.variants if variant.random)


def test_entries_differ() -> None:
    assert len({str(variant) for variant in VARIANTS}) == len(VARIANTS)
    assert len({str(refused) for refused in REFUSED}) == len(REFUSED)


@pytest.mark.parametrize("case", CASES, ids=[case.layer for case in CASES])
def test_neupy_was_recorded(case: Any) -> None:
    recorded = any(case.layer in entry["layers"] for entry in read_cases())
    assert recorded is not bool(case.not_recorded)
