"""The planted bugs of mutants.py can still be planted; that the tests notice them is seen by running it."""

import ast

import pytest

from tests.contract.mutants import CONTRACT, MUTANTS, ROOT, Mutant
from torchneupy.testing.parts import PARTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_bug_has_its_place_in_the_package(mutant: Mutant) -> None:
    text = (ROOT / "torchneupy" / mutant.file).read_text()
    assert text.count(mutant.old) == 1
    planted = text.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(text))
    assert (ROOT / mutant.tests).is_file()


def test_bugs_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_of_the_contract_has_a_bug_of_its_own(part: str) -> None:
    keywords = [mutant.keyword for mutant in MUTANTS if mutant.tests == CONTRACT]
    assert any(keyword.startswith(f"[{part}-") for keyword in keywords)
