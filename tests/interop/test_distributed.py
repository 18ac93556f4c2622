"""Two processes that train together, started by torchrun, learn what one learns from the joined batch.

They are on the CPU, with gloo, on every machine; the recipe of README.rst runs on CUDA where each process has a GPU.
"""

from __future__ import annotations

import re
import shlex
import socket
import textwrap
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.interop.loops import calm
from tests.interop.networks import CASES, Case, every_case
from tests.interop.several_processes import (
    DIVISIONS,
    DTYPES,
    SIZE,
    TOLERANCES,
    WAYS,
    learn_alone,
    make_batch,
    make_norm,
    normalise,
    optimizer_of,
)
from tests.interop.torchrun import ROOT, Found, torchrun
from torchneupy.distributed import SyncBatchNorm, shard_placement
from torchneupy.layers import BatchNorm, Input, Linear, Relu, Sigmoid, Softmax, join

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is without distributed")


def learns_what_one_learns(found: Found, case: Case, way: str, synchronised: bool) -> None:
    network = calm(case)
    losses = learn_alone(case, network, optimizer_of(network), 1 if synchronised else SIZE)
    ours = [networks[case.name, way, synchronised] for networks in found.networks]
    is_close = partial(assert_close, rtol=TOLERANCES.get(way, 1e-5), atol=TOLERANCES.get(way, 1e-6))
    for one in ours:
        is_close(one["losses"], losses)
    assert list(ours[0]["state"]) == list(network.state_dict())
    is_close(ours[0]["state"], network.state_dict())


@every_case
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_learn_what_one_learns_from_the_joined_batch(two_processes, case, way):
    learns_what_one_learns(two_processes, case, way, synchronised=True)


@pytest.mark.parametrize("way", WAYS)
def test_batch_norm_takes_the_statistics_of_each_part_as_that_of_torch(two_processes, way):
    """And those of the first process are kept: DistributedDataParallel and full state dicts take the buffers of it."""
    learns_what_one_learns(two_processes, CASES["convolution"], way, synchronised=False)


@every_case
@pytest.mark.parametrize("way", WAYS)
def test_a_whole_state_is_taken_by_every_process(two_processes, case, way):
    expected = case.network(seed=1).predict(*case.inputs(), verbose=False)
    for networks in two_processes.networks:
        tolerance = TOLERANCES.get(way, 1e-5)
        assert_close(networks[case.name, way, True]["predicted"], expected, rtol=tolerance, atol=tolerance)


# What each process holds


@pytest.mark.parametrize("way, least, most", [("FSDP2", 0.3, 0.7), ("FSDP2 with shard_placement", 0.45, 0.55)])
def test_each_process_holds_its_part_of_the_parameters(two_processes, way, least, most):
    case = CASES["convolution"]
    total = sum(parameter.numel() for parameter in case.network().parameters())
    shares = [networks[case.name, way, True]["held"] / total for networks in two_processes.networks]
    assert sum(shares) == 1
    assert all(least <= share <= most for share in shares), shares


@pytest.mark.parametrize(
    "shape, n_shards, axis",
    [
        ((3, 3, 64, 128), 8, 3),  # the rows of a kernel are few
        ((3, 3, 128, 64), 8, 2),
        ((8, 8, 64, 128), 8, None),
        ((1, 1, 1, 64), 8, 3),
        ((784, 10), 8, None),
        ((10, 64), 8, 1),
        ((1001, 64), 8, None),  # little to pad
        ((3, 3, 3, 10), 4, None),  # FSDP2 divides no other axis unevenly
        ((64,), 8, None),
        ((), 2, None),
    ],
)
def test_shard_placement(shape, n_shards, axis):
    placement = shard_placement(nn.Parameter(torch.empty(shape)), n_shards)
    assert (None if placement is None else placement.dim) == axis


# Batch normalisation over all processes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", DIVISIONS)
def test_sync_batch_norm_is_batch_norm_of_the_joined_batch(two_processes, sizes, dtype):
    expected = normalise(make_norm(), make_batch(dtype))
    parts = [norms[sizes, dtype] for norms in two_processes.norms]
    is_close = partial(assert_close, rtol=DTYPES[dtype], atol=DTYPES[dtype])
    for name in ("mean", "inverse"):
        for part in parts:
            is_close(part[name], expected[name])
    for name in ("output", "x"):
        is_close(torch.cat([part[name] for part in parts]), expected[name])
    for name in ("gamma", "beta"):
        is_close(sum(part[name] for part in parts), expected[name])


def test_sync_batch_norm_of_one_process_is_batch_norm(device):
    ours, expected = make_norm().to(device), make_norm().to(device)
    SyncBatchNorm.convert_sync_batchnorm(ours)
    found, wanted = (normalise(norm, make_batch(torch.float32).to(device)) for norm in (ours, expected))
    assert_close(found, wanted, rtol=0, atol=0)


class Other(BatchNorm):
    """A user's layer."""


def test_conversion_keeps_layers_and_leaves_classes_of_users_alone():
    network = Input(4) >> BatchNorm(name="one") >> Relu(3) >> Other(name="two")
    before, layers = network.state_dict(keep_vars=True), network.layers
    inner = nn.Sequential(network)
    assert SyncBatchNorm.convert_sync_batchnorm(inner) is inner
    assert network.layers == layers
    assert [type(layer) for layer in layers[1:]] == [SyncBatchNorm, Relu, Other]
    after = network.state_dict(keep_vars=True)
    assert all(after[key] is tensor for key, tensor in before.items()) and after.keys() == before.keys()
    assert repr(network["one"]).startswith("SyncBatchNorm(axes=None, alpha=0.1")


def test_conversion_comes_before_classes_that_torch_makes():
    network = Input(4) >> BatchNorm() >> BatchNorm(name="norm")
    nn.utils.parametrize.register_parametrization(network["norm"], "gamma", nn.Identity())
    with pytest.raises(TypeError, match=r"before fully_shard and parametrize, got ParametrizedBatchNorm"):
        SyncBatchNorm.convert_sync_batchnorm(network)
    assert type(network[1]) is BatchNorm


def test_the_conversion_of_torch_leaves_layers_as_they_are():
    """Lightning's ``sync_batchnorm=True`` calls it, and of our layers nothing is said."""
    network = Input(4) >> BatchNorm() >> nn.BatchNorm1d(4)
    nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert type(network[1]) is BatchNorm and type(network[2].module) is nn.SyncBatchNorm


def test_sync_batch_norm_is_a_layer_as_others(device):
    network = (Input(4) >> SyncBatchNorm() >> Softmax(2)).to(device)
    assert network[1].name == "sync-batch-norm-1"
    assert network(torch.randn(5, 4, device=device)).shape == (5, 2)


# The recipe of README.rst


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port: int = listener.getsockname()[1]
        return port


def blocks_of_readme(title: str) -> list[str]:
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^{title}\n-+\n(.*?)\n\n\n", text, re.MULTILINE | re.DOTALL)
    return [
        textwrap.dedent(block)
        for block in re.findall(r"^\.\. code-block:: .*\n(?: +:.*\n)?\n((?: .*\n|\n)+)", section, re.MULTILINE)
    ]


@pytest.mark.parametrize("machines", [1, pytest.param(2, marks=pytest.mark.full)])
def test_the_recipe_trains(tmp_path, machines):
    """As it stands there, but for the number of processes and the name of the first machine."""
    script, commands, *_ = blocks_of_readme("Several GPUs")
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    program, *arguments = shlex.split(commands.splitlines()[machines - 1])
    assert program == "torchrun" and arguments.count("8") == 1
    changed = {"8": str(SIZE // machines), "first:29500": f"localhost:{free_port()}"}
    with_gpus = machines == 1 and torch.cuda.device_count() >= SIZE
    torchrun([changed.get(argument, argument) for argument in arguments], tmp_path, machines, with_gpus)
    network = join(Input(10), Linear(32) >> BatchNorm() >> Relu(), Sigmoid(1)).eval()
    network.load_state_dict(torch.load(tmp_path / "network.pt", map_location="cpu"))
    x = torch.randn(500, 10)
    assert ((network(x) > 0.5)[:, 0] == (x.sum(dim=1) > 0)).float().mean() > 0.9
