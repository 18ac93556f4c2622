"""Planted bugs: each is put into a copy of the package, and the tests have to notice it there.

``python tests/contract/mutants.py [--only NAME]`` shows for each one which test it failed; the exit code is 1 where one
survives, where the tests fail without any bug, or where the package's text has changed so that a bug cannot be planted.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = "tests/contract/test_contract.py"

# Loaded by pytest in the copy, so that no other torchneupy is tested by mistake.
GUARD = """
from pathlib import Path
import pytest

def pytest_collection_finish(session):
    import torchneupy
    if not Path(torchneupy.__file__).is_relative_to(Path(__file__).parent):
        pytest.exit(f"torchneupy was imported from {torchneupy.__file__}", returncode=9)
"""


class Mutant(NamedTuple):
    """A bug: what it replaces in a file of the package, and the tests that should notice it, with pytest's ``-k``."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    keyword: str


MUTANTS = (
    Mutant(
        "declared-shape-off-by-one",
        "layers/activations.py",
        "return TensorShape((shape[0], self.n_units))",
        "return TensorShape((shape[0], self.n_units + 1))",
        CONTRACT,
        "[shape-",
    ),
    Mutant(
        "unknown-size-counts-as-none",
        "core/shape.py",
        "return None if None in dims else function(*dims)",
        "return function(*(dim or 0 for dim in dims))",
        CONTRACT,
        "[unknown_sizes-",
    ),
    Mutant(
        "dropout-always-on",
        "layers/stochastic.py",
        "if not training:\n            return input\n        return by_value(functional.dropout,",
        "return by_value(functional.dropout,",
        CONTRACT,
        "[evaluation-",
    ),
    Mutant(
        "dropout-always-off",
        "layers/stochastic.py",
        "functional.dropout, input, p=self.proba, training=True)",
        "functional.dropout, input, p=self.proba, training=False)",
        CONTRACT,
        "trains",
    ),
    Mutant(
        "dropout-without-scale",
        "layers/stochastic.py",
        "functional.dropout, input, p=self.proba, training=True)",
        "functional.dropout, input, p=self.proba, training=True) * (1 - self.proba)",
        CONTRACT,
        "trains",
    ),
    Mutant(
        "call-forgets-the-mode",
        "layers/base.py",
        "return self.output(*inputs, training=self.training)",
        "return self.output(*inputs, training=False)",
        CONTRACT,
        "[modes-",
    ),
    Mutant(
        "network-forgets-the-flag",
        "layers/network.py",
        "return child.output(*found, training=training, **kwargs)",
        "return child.output(*found, **kwargs)",
        CONTRACT,
        "[modes-",
    ),
    Mutant(
        "batch-statistics-in-evaluation",
        "layers/normalization.py",
        "return self._normalise_by_batch(input) if training else self._normalise_by_averages(input)",
        "return self._normalise_by_batch(input)",
        CONTRACT,
        "[samples-",
    ),
    Mutant(
        "drop-block-on-the-wrong-side",
        "layers/stochastic.py",
        "margins = (block_width - 1, block_width - 1, ",
        "margins = (2 * (block_width - 1), 0, ",
        CONTRACT,
        "trains and DropBlock",
    ),
    Mutant(
        "drop-block-too-seldom",
        "layers/stochastic.py",
        "share = (1 - self.keep_proba) * height * width / (block_height * block_width * rows * columns)",
        "share = (1 - self.keep_proba) / (block_height * block_width)",
        CONTRACT,
        "trains and DropBlock",
    ),
    Mutant(
        "slopes-on-swapped-axes",
        "layers/activations.py",
        "moved = input.movedim(axes, last)",
        "axes = tuple(sorted(axes, key=lambda axis: axis % input.ndim))\n        moved = input.movedim(axes, last)",
        CONTRACT,
        "computes and PRelu",
    ),
    Mutant(
        "merged-from-the-last",
        "layers/merging.py",
        "return reduce(self.merge_function, inputs)",
        "return reduce(self.merge_function, inputs[::-1])",
        CONTRACT,
        "computes and Elementwise",
    ),
    Mutant(
        "weight-without-gradient",
        "layers/activations.py",
        "torch.addmm(bias, input, weight)",
        "torch.addmm(bias, input, weight.detach())",
        CONTRACT,
        "[gradients-",
    ),
    Mutant(
        "slope-without-gradient",
        "layers/activations.py",
        "input.movedim(axes[0], 1), alpha)",
        "input.movedim(axes[0], 1), alpha.detach())",
        CONTRACT,
        "[gradients-",
    ),
    Mutant(
        "variable-not-registered",
        "layers/variables.py",
        "layer._parameters[key] = tensor",
        "vars(layer)[key] = tensor",
        CONTRACT,
        "variables_are_registered",
    ),
    Mutant(
        "buffer-in-a-plain-attribute",
        "layers/variables.py",
        "layer._buffers[key] = tensor",
        "vars(layer)[key] = tensor",
        "tests/layers/test_variables.py",
        "moves_with_its_layer or is_a_buffer",
    ),
    Mutant(
        "weight-remembered-by-the-layer",
        "layers/activations.py",
        "weight = self.weight\n",
        "weight = vars(self).setdefault('_weight', self.weight)\n",
        CONTRACT,
        "[moves-",
    ),
    Mutant(
        "name-taken-by-a-refused-layer",
        "layers/stochastic.py",
        "self.specify(proba=proba)\n        super().__init__(name=name)",
        "super().__init__(name=name)\n        self.specify(proba=proba)",
        CONTRACT,
        "test_bad_use and Dropout",
    ),
    Mutant(
        "message-without-the-value",
        "core/properties.py",
        "should be between {self.minval} and {self.maxval}, got {value!r}",
        "should be between {self.minval} and {self.maxval}",
        CONTRACT,
        "test_bad_use and (Dropout or GaussianNoise)",
    ),
    Mutant(
        "failed-composition-leaves-variables",
        "layers/variables.py",
        "        for snapshot in reversed(before):\n"
        "            snapshot.restore()\n"
        "        torch.set_rng_state(generator)\n",
        "        torch.set_rng_state(generator)\n",
        CONTRACT,
        "test_bad_use and np.ones",
    ),
    Mutant(
        "failed-composition-draws",
        "layers/variables.py",
        "            snapshot.restore()\n        torch.set_rng_state(generator)\n",
        "            snapshot.restore()\n",
        CONTRACT,
        "test_bad_use and np.ones",
    ),
    Mutant(
        "composing-changes-the-operand",
        "layers/draft.py",
        "draft.forward = operand._forward.copy()",
        "draft.forward = operand._forward",
        "tests/layers/test_composition.py",
        "operands_stay_as_they_are",
    ),
    Mutant(
        "activation-writes-into-its-input",
        "layers/activations.py",
        "return by_value(activation, input)",
        "return getattr(activation, 'in_place', lambda layer, x: activation(x))(self, input)",
        CONTRACT,
        "[inputs-",
    ),
    Mutant(
        "shared-parameter-copied",
        "layers/variables.py",
        "if is_drawn or isinstance(tensor, nn.Parameter):",
        "if is_drawn:",
        CONTRACT,
        "given_values",
    ),
    Mutant(
        "given-tensor-not-copied",
        "layers/variables.py",
        "to(**kind, copy=True, memory_format=torch.contiguous_format)",
        "to(**kind)",
        CONTRACT,
        "given_values",
    ),
    Mutant(
        "deep-copy-shares-storage",
        "layers/base.py",
        "    def __copy__(self) -> Self:\n",
        "    def __deepcopy__(self, memo):\n"
        "        twin = type(self).__new__(type(self))\n"
        "        vars(twin).update({k: v.copy() if isinstance(v, (dict, set)) else v for k, v in vars(self).items()})\n"
        "        return twin\n\n"
        "    def __copy__(self) -> Self:\n",
        CONTRACT,
        "[deepcopy-",
    ),
    Mutant(
        "replaced-layer-still-runs",
        "layers/running.py",
        "modules: dict[str, Any] = network._modules\n",
        "modules: dict[str, Any] = vars(network).setdefault('_first', dict(network._modules))\n",
        CONTRACT,
        "replaced_child_runs",
    ),
    Mutant(
        "random-numbers-drawn-on-meta",
        "init.py",
        "return torch.empty(shape, device=device)\n",
        "return fill(torch.empty(shape, device='cpu'), None).to(device)\n",
        CONTRACT,
        "[meta-",
    ),
    Mutant(
        "lengths-looked-at-on-any-device",
        "layers/sequences.py",
        'lengths.device.type != "cpu" or ',
        "",
        CONTRACT,
        "nothing_is_read_on_the_host",
    ),
    Mutant(
        "inputs-in-the-order-of-the-last-connection",
        "layers/draft.py",
        "forward = self.by_layer()\n",
        "forward = {**{layer: [] for layer in other.layers.values()}, **self.by_layer()}\n",
        "tests/layers/test_composition.py",
        "inputs_of_a_layer or values_follow",
    ),
    Mutant(
        "keys-numbered-by-the-process",
        "layers/naming.py",
        "return NameRequest(pattern, literal=False)",
        "return NameRequest(layer.name, literal=True)",
        CONTRACT,
        "state_dict_elsewhere",
    ),
    Mutant(
        "variables-always-float32",
        "layers/variables.py",
        '"dtype": torch.get_default_dtype()}',
        '"dtype": torch.float32}',
        CONTRACT,
        "[dtypes-",
    ),
    Mutant(
        "noise-of-another-type",
        "layers/stochastic.py",
        "return by_value(torch.mul, input, (kept * scale).to(input.dtype))",
        "return by_value(torch.mul, input, kept * scale)",
        CONTRACT,
        "[dtypes-",
    ),
    Mutant(
        "repr-without-an-option",
        "layers/activations.py",
        "return self._repr_arguments(alpha=self.alpha, name=self.name)",
        "return self._repr_arguments(name=self.name)",
        CONTRACT,
        "repr_evaluates",
    ),
    Mutant(
        "same-padding-on-the-wrong-side",
        "layers/images.py",
        "    before = total // 2\n",
        "    before = total - total // 2\n",
        CONTRACT,
        "computes and (Convolution or Pooling)",
    ),
    Mutant(
        "kernel-transposed",
        "layers/convolutions.py",
        "weight.permute(3, 2, 0, 1)",
        "weight.permute(3, 2, 1, 0)",
        CONTRACT,
        "computes and Convolution",
    ),
    Mutant(
        "running-statistics-by-the-wrong-share",
        "layers/normalization.py",
        "type_as(running), self.alpha)",
        "type_as(running), 1 - self.alpha)",
        CONTRACT,
        "changes_its_buffers and BatchNorm",
    ),
    Mutant(
        "running-statistics-never-change",
        "layers/normalization.py",
        "return self._normalise_by_batch(input) if training",
        "return self._normalise_by_batch(input) if not training",
        CONTRACT,
        "(changes_its_buffers or computes) and BatchNorm",
    ),
    Mutant(
        "running-statistics-are-trained",
        "layers/normalization.py",
        'self.variable(None, "running_mean", shape=sizes, trainable=False)',
        'self.variable(None, "running_mean", shape=sizes)',
        CONTRACT,
        "variables_are_registered and BatchNorm",
    ),
    Mutant(
        "gates-in-another-order",
        "layers/recurrent.py",
        "ingate, forgetgate, entering, outgate = arguments",
        "forgetgate, ingate, entering, outgate = arguments",
        CONTRACT,
        "computes and LSTM",
    ),
    Mutant(
        "update-gate-not-turned-round",
        "layers/recurrent.py",
        "update.neg()",
        "update",
        CONTRACT,
        "computes and GRU",
    ),
    Mutant(
        "padding-of-sequences-counts",
        "layers/sequences.py",
        "mirrored = lengths[:, None] - 1 - steps",
        "mirrored = sequence.shape[1] - 1 - steps.expand(len(lengths), -1)",
        CONTRACT,
        "computes and backwards",
    ),
    Mutant(
        "gradient-never-clipped",
        "layers/sequences.py",
        "gradient.clamp(-ctx.limit, ctx.limit)",
        "gradient",
        "tests/layers/test_recurrent.py",
        "clipping",
    ),
    Mutant(
        "indices-become-fractions",
        "layers/inputs.py",
        "if holds_indices(network, key):",
        "if key is None:",
        "tests/layers/test_recurrent.py",
        "lengths_of_any_type",
    ),
    Mutant(
        "buffer-not-saved",
        "layers/variables.py",
        "layer._buffers[key] = tensor",
        "layer._buffers[key] = tensor\n        layer._non_persistent_buffers_set.add(key)",
        CONTRACT,
        "[state_dict-",
    ),
    Mutant(
        "function-without-a-name",
        "layers/stochastic.py",
        "self.specify(proba=proba)\n        super().__init__(name=name)",
        "self.specify(proba=proba)\n        super().__init__(name=name)\n        self.kept = lambda: 1 - self.proba",
        CONTRACT,
        "[pickle-",
    ),
    Mutant(
        "strides-taken-for-granted",
        "layers/reshape.py",
        "input.reshape(input.shape[0], *self.shape)",
        "input.view(input.shape[0], *self.shape)",
        CONTRACT,
        "[inputs-",
    ),
    Mutant(
        "noise-on-the-cpu",
        "layers/stochastic.py",
        "torch.randn_like(input) * self.std",
        "torch.randn(input.shape) * self.std",
        CONTRACT,
        "[cuda-",
    ),
    Mutant(
        "value-looked-at",
        "layers/stochastic.py",
        "if rows < 1 or columns < 1:\n",
        "if rows < 1 or columns < 1 or not input.any():\n",
        CONTRACT,
        "[compile-DropBlock",
    ),
    Mutant(
        "batch-taken-for-known",
        "layers/reshape.py",
        "input.reshape(input.shape[0], *self.shape)",
        "input.reshape(int(input.shape[0]), *self.shape)",
        CONTRACT,
        "[export-Reshape",
    ),
    Mutant(
        "gate-divided-among-the-wrong-inputs",
        "layers/merging.py",
        "gate[:, index])",
        "gate[:, index - 1])",
        CONTRACT,
        "computes and GatedAverage",
    ),
)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def plant(mutant: Mutant, root: Path) -> None:
    """Put a bug into the package under a folder.

    Raises
    ------
    ValueError
        If the text that it replaces is not there, or more than once.
    """
    path = root / "torchneupy" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: found {text.count(mutant.old)} times in {mutant.file}, not once: {mutant.old}"
        )
    path.write_text(text.replace(mutant.old, mutant.new))


def run_tests(root: Path, tests: str, keyword: str) -> tuple[int, str]:
    """Pytest's exit code and output."""
    # Without bytecode, which may be taken for that of a source of the same length and second.
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "guard", "-p", "no:cacheprovider", tests]
    done = subprocess.run(
        [*command, *(["-k", keyword] if keyword else [])],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def fail_without_bugs(root: Path, mutants: Iterable[Mutant]) -> list[str]:
    """Output of the chosen tests where they fail although nothing was planted."""
    keywords: dict[str, set[str]] = {}
    for mutant in mutants:
        keywords.setdefault(mutant.tests, set()).add(mutant.keyword)
    failures = []
    for tests, found in keywords.items():
        keyword = "" if "" in found else " or ".join(f"({one})" for one in sorted(found))
        code, output = run_tests(root, tests, keyword)
        if code != 0:
            failures.append(output)
    return failures


def copy_project(root: Path) -> None:
    for name in ("torchneupy", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", root)
    (root / "guard.py").write_text(GUARD)


def judge(root: Path, mutant: Mutant) -> bool:
    """Whether a mutant is killed; the package is clean again afterwards."""
    begin = time.monotonic()
    path = root / "torchneupy" / mutant.file
    clean = path.read_text()
    try:
        plant(mutant, root)
        code, output = run_tests(root, mutant.tests, mutant.keyword)
    except ValueError as error:
        say(f"STALE     {error}")
        return False
    finally:
        path.write_text(clean)
    seconds = time.monotonic() - begin
    killer = re.search(r"^FAILED \S*/(\S+?\.py::\w+(?:\[.*?\](?= - |$))?)", output, re.MULTILINE)
    if code == 1 and killer:
        say(f"killed    {mutant.name} ({seconds:.0f} s) by {killer[1]}")
        return True
    say(f"SURVIVED  {mutant.name} ({seconds:.0f} s), exit code {code}\n{output[-2000:] if code else ''}")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAME", help="plant this one", choices=[mutant.name for mutant in MUTANTS])
    only = parser.parse_args().only
    mutants = [mutant for mutant in MUTANTS if only in (None, mutant.name)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        copy_project(root)
        failures = fail_without_bugs(root, mutants)
        if failures:
            say("The tests fail without any bug:\n" + "\n".join(failures))
            return 1
        asked = [mutant for mutant in mutants if torch.cuda.is_available() or "[cuda-" not in mutant.keyword]
        for mutant in mutants:
            if mutant not in asked:
                say(f"not asked {mutant.name}, as there is no CUDA")
        killed = [judge(root, mutant) for mutant in asked]
    say(f"{sum(killed)} of {len(killed)} killed")
    return 0 if all(killed) else 1


if __name__ == "__main__":
    sys.exit(main())
