"""Every layer of the library keeps every law; cases.py describes the layers, laws.py has the laws."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.cases import CASES, REFUSED, VARIANTS
from tests.contract.entry import Refused, Variant
from tests.contract.laws import LAWS, ON_CUDA
from tests.contract.refusal import is_refused
from tests.golden.replay import read_cases
from torchneupy import layers


def questions() -> Iterator[Any]:
    """Each law and each variant that has to keep it."""
    for name in LAWS:
        for variant in VARIANTS:
            if name not in variant.exempt:
                marks = [pytest.mark.cuda] if name in ON_CUDA else []
                yield pytest.param(name, variant, id=f"{name}-{variant}", marks=marks)


@pytest.mark.parametrize("name, variant", list(questions()))
def test_law(name: str, variant: Variant) -> None:
    LAWS[name](variant)


@pytest.mark.parametrize("refused", REFUSED, ids=str)
def test_bad_use(refused: Refused) -> None:
    is_refused(refused)


# Each layer has its entry, and no entry has more than it needs.


def is_kept(name: str, variant: Variant) -> bool:
    law = LAWS[name]
    with contextlib.suppress(Exception, pytest.fail.Exception):  # a law may be broken in any way
        law(variant)
        return True
    return False


@pytest.mark.parametrize(
    "name, variant",
    [
        pytest.param(name, v, id=f"{name}-{v}", marks=[pytest.mark.cuda] if name in ON_CUDA else [])
        for v in VARIANTS
        for name in v.exempt
    ],
)
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
