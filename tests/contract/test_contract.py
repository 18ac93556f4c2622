"""Every layer of the library keeps every law; cases.py describes the layers, laws.py has the laws."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.cases import CASES, REFUSED, VARIANTS
from tests.contract.entry import Refused, Variant
from tests.contract.laws import EXPENSIVE, LAWS, ON_CUDA
from tests.contract.refusal import is_refused
from tests.golden.replay import read_cases
from torchneupy import layers

FIRST = [case.variants[0] for case in CASES]


def questions() -> Iterator[Any]:
    """Each law and each variant that has to keep it."""
    for name in LAWS:
        for variant in FIRST if name in EXPENSIVE else VARIANTS:
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
    try:
        law(variant)
    except Exception:  # noqa: BLE001  # a law may be broken in any way
        return False
    return True


@pytest.mark.parametrize(
    "name, variant", [pytest.param(name, v, id=f"{name}-{v}") for v in VARIANTS for name in v.exempt]
)
def test_exemption_is_needed(name: str, variant: Variant) -> None:
    assert variant.exempt[name]
    assert not is_kept(name, variant)


def test_every_public_layer_has_one_entry() -> None:
    public = {  # a layer may have a second, short name
        cls.__name__
        for name in layers.__all__
        if inspect.isclass(cls := getattr(layers, name)) and issubclass(cls, layers.BaseLayer)
    }
    public.remove("BaseLayer")  # it computes nothing
    assert sorted(case.layer for case in CASES) == sorted(public)


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
