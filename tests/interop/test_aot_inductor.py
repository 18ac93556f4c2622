"""AOTInductor: a package of machine code that runs without the network."""

import shutil

import pytest
import torch
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch.testing import assert_close

from tests.interop.networks import CASES

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a compiler for C++"),
    # Inductor itself uses what torch has deprecated.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning", "ignore:.*is deprecated:FutureWarning"),
]


# The others in the full run: the compiler takes its time.
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.full] if name != "two in two out" else [], id=name)
        for name, case in CASES.items()
    ],
)
def test_a_package_computes_what_the_network_does(case, device, tmp_path):
    network = case.network().eval().to(device)
    program = torch.export.export(network, case.inputs(device=device), dynamic_shapes=network.dynamic_shapes())
    run = aoti_load_package(aoti_compile_and_package(program, package_path=str(tmp_path / "network.pt2")))
    for batch in (1, 2, 7):
        inputs = case.inputs(batch, device=device)
        assert_close(run(*inputs), network(*inputs))
