"""torchneupy computes what NeuPy 0.8.2 was recorded to compute; replay.py says how."""

import copy
from typing import Any

import numpy as np
import pytest

from tests.golden.replay import FOLDER, Replay, read_arrays, read_cases
from torchneupy import layers

CASES = {case["id"]: case for case in read_cases()}

# Where torchneupy is meant to differ: the case, and each difference with where it is. Nothing else may differ, and what
# is listed has to.
DECIDED_DIFFERENCES: dict[str, dict[str, str]] = {
    # NeuPy promises noise of mean 0 and deviation 1, and has the two defaults the wrong way round.
    "noise-defaults": {
        "layer_reprs.1": "GaussianNoise(mean=0, std=1, name='gaussian-noise-#') instead of "
        "GaussianNoise(mean=1, std=0, name='gaussian-noise-#')",
        "training_output.0": "other values",
    },
    "noise-in-network": {
        "layer_reprs.4": "GaussianNoise(mean=0, std=0.1, name='gaussian-noise-#') instead of "
        "GaussianNoise(mean=1, std=0.1, name='gaussian-noise-#')",
    },
    # NeuPy's Elementwise declares the shape of its first input, although the second knows more.
    "elementwise-partly-known": {
        "repr": "[(?, ?, 3), (?, 4, 3)] -> [... 3 layers ...] -> (?, 4, 3) instead of "
        "[(?, ?, 3), (?, 4, 3)] -> [... 3 layers ...] -> (?, ?, 3)",
        "output_shape": "(?, 4, 3) instead of (?, ?, 3)",
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(case: dict[str, Any]) -> None:
    differences = Replay(case, read_arrays(case)).differences
    found = {difference.where: difference.what for difference in differences}
    assert found == DECIDED_DIFFERENCES.get(case["id"], {}), "\n".join(map(str, differences))
    assert len(found) == len(differences)


def test_decided_differences_are_of_cases() -> None:
    assert DECIDED_DIFFERENCES.keys() <= CASES.keys()


def test_files_are_those_of_the_cases() -> None:
    assert len(CASES) == len(read_cases())
    assert {path.stem for path in FOLDER.glob("*.npz")} == CASES.keys()


def test_every_layer_has_cases() -> None:
    classes = [getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)]
    public = {cls.__name__ for cls in classes}  # some have a second name
    # Networks are what the cases are made of; the adapter of foreign modules has no counterpart in NeuPy.
    public -= {"BaseGraph", "LayerGraph", "ModuleLayer"}
    assert {name for case in CASES.values() for name in case["layers"]} == public


# That a replay would notice


@pytest.mark.parametrize("name", ["relu-units", "tanh-bias-array", "noise-without-deviation", "graph-many-outputs"])
def test_replay_notices_any_other_number(name: str) -> None:
    case, arrays = CASES[name], read_arrays(CASES[name])
    results = [key for key in arrays if not key.startswith(("input.", "value.", "coefficient.", "other_input."))]
    assert {key.split(".")[0] for key in results} >= {"output", "gradient", "other_output"}
    for key in results:
        changed = {**arrays, key: arrays[key] + np.float32(0.001)}
        places = {difference.where for difference in Replay(case, changed).differences}
        # A case that trains as it computes is compared with the same numbers twice.
        assert places - {f"training_{key}"} == {key}


@pytest.mark.parametrize(
    "key, value",
    [
        ("repr", "(?, 4) -> [... 2 layers ...] -> (?, 4)"),
        ("layer_reprs", ["Input(4, name='input-#')"]),
        ("input_shape", "(?, 5)"),
        ("output_shape", "[(?, 3)]"),
        ("n_parameters", 14),
        ("variables", [["relu-#", "weight", [4, 3], True, None]]),
        ("variables", [["relu-#", "weight", [4, 3], True, None], ["relu-#", "bias", [3], False, 0.0]]),
        ("variables", [["relu-#", "weight", [4, 3], True, None], ["relu-#", "bias", [3], True, 0.5]]),
    ],
)
def test_replay_notices_another_description(key: str, value: Any) -> None:
    case = copy.deepcopy(CASES["relu-units"])
    arrays = read_arrays(case)
    assert not Replay(case, arrays).differences
    assert case[key] != value
    assert Replay({**case, key: value}, arrays).differences


def test_replay_notices_another_type_and_shape() -> None:
    case, arrays = CASES["relu-units"], read_arrays(CASES["relu-units"])
    for changed, what in [
        (arrays["output.0"].astype(np.float64), "float32[3, 3] instead of float64[3, 3]"),
        (arrays["output.0"][:2], "float32[3, 3] instead of float32[2, 3]"),
    ]:
        differences = Replay(case, {**arrays, "output.0": changed}).differences
        assert {difference.what for difference in differences} == {what}


def test_replay_takes_a_missing_gradient_for_zeros() -> None:
    case, arrays = CASES["relu-units"], read_arrays(CASES["relu-units"])
    del arrays["gradient.value.0"]
    (difference,) = Replay(case, arrays).differences
    assert (difference.where, difference.what) == ("gradient.value.0", "other values")
