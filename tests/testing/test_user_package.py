"""A package outside of the tree, with a right layer and three broken ones, gets the right verdicts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LAYERS = '''
import torch
from torchneupy import init
from torchneupy.layers import BaseLayer


class Attention(BaseLayer):
    """Adds the steps of a sequence up by weights that it learns to give."""

    def get_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])

    def create_variables(self, input_shape):
        self.query = self.variable(value=init.Normal(std=1), name="query", shape=input_shape[2:])

    def output(self, x):
        shares = torch.softmax(x @ self.query, dim=1)
        return (x * shares.unsqueeze(2)).sum(dim=1)


class WrongShape(Attention):
    def get_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1])


class NoGradient(Attention):
    def output(self, x):
        return super().output(x.detach())


class LostState(Attention):
    def create_variables(self, input_shape):
        super().create_variables(input_shape)
        self.register_buffer("offset", torch.randn(input_shape[2]), persistent=False)

    def output(self, x):
        return super().output(x) + self.offset
'''

TESTS = """
import pytest
from layers_of_mine import Attention, LostState, NoGradient, WrongShape
from torchneupy.testing import check_layer


def test_right():
    check_layer(Attention, input_shape=(5, 4))


@pytest.mark.parametrize("cls, part", [(WrongShape, "shape"), (NoGradient, "gradients"), (LostState, "state_dict")])
def test_broken(cls, part):
    with pytest.raises(AssertionError, match=f"breaks 1 of 16 parts .*\\n\\n{part}: "):
        check_layer(cls, input_shape=(5, 4))
"""


def test_verdicts(tmp_path):
    (tmp_path / "layers_of_mine").mkdir()
    (tmp_path / "layers_of_mine" / "__init__.py").write_text(LAYERS)
    (tmp_path / "test_layers.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "4 passed" in done.stdout
