"""SyncBatchNorm among some of the processes only: each group has the statistics of its joined batch."""

from __future__ import annotations

import copy
import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.testing import assert_close

from torchneupy.distributed import SyncBatchNorm
from torchneupy.layers import BatchNorm, Input, Linear

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch is without distributed")

GROUPS = ([0], [1, 2])
SIZES = (4, 5, 3)


def build() -> Any:
    torch.manual_seed(0)
    return Input(4) >> Linear(3) >> BatchNorm(epsilon=0.1)


def batches() -> Any:
    return (torch.randn(sum(SIZES), 4, generator=torch.Generator().manual_seed(1)) + 2).split(SIZES)


def learn(network: Any, x: torch.Tensor) -> dict[str, Any]:
    x = x.clone().requires_grad_()
    output = network(x)
    output.pow(3).sum().backward()
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {"output": output.detach(), "x": x.grad, "buffers": buffers, "gradients": gradients}


def work(rank: int, folder: Path) -> None:
    """What one of the processes does."""
    torch.set_num_threads(1)
    store, timeout = f"file://{folder / 'store'}", timedelta(seconds=60)
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=len(SIZES), timeout=timeout)
    made = [distributed.new_group(ranks) for ranks in GROUPS]
    group = next(group for group, ranks in zip(made, GROUPS, strict=True) if rank in ranks)
    converted = SyncBatchNorm.convert_sync_batchnorm(build(), group)
    assert converted[2].process_group is group
    torch.manual_seed(0)
    constructed = Input(4) >> Linear(3) >> SyncBatchNorm(epsilon=0.1, process_group=group)
    of_all = SyncBatchNorm.convert_sync_batchnorm(build())
    x = batches()[rank]
    torch.save([learn(network, x) for network in (converted, constructed, of_all)], folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("groups")
    spawn(work, args=(folder,), nprocs=len(SIZES))
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(SIZES))]


@pytest.mark.parametrize("ranks", [*GROUPS, [0, 1, 2]], ids=["one process", "two processes", "all, by default"])
def test_a_group_has_the_statistics_of_its_joined_batch(found: list[Any], ranks: list[int]) -> None:
    parts = [batches()[rank] for rank in ranks]
    expected = learn(build(), torch.cat(parts))
    outputs = expected["output"].split([len(part) for part in parts])
    by_input = expected["x"].split([len(part) for part in parts])
    for variant in (0, 1) if ranks in GROUPS else (2,):
        ours = [found[rank][variant] for rank in ranks]
        assert_close([one["output"] for one in ours], list(outputs))
        assert_close([one["x"] for one in ours], list(by_input))
        for one in ours:
            assert_close(list(one["buffers"].values()), list(expected["buffers"].values()))
        total = [sum(values) for values in zip(*(one["gradients"].values() for one in ours), strict=True)]
        assert_close(total, list(expected["gradients"].values()), rtol=1e-4, atol=1e-4)


def test_the_constructor_takes_what_that_of_batch_norm_takes_and_a_group() -> None:
    ours, of_batch_norm = inspect.signature(SyncBatchNorm).parameters, inspect.signature(BatchNorm).parameters
    assert {name: p.default for name, p in ours.items()} == {
        **{name: p.default for name, p in of_batch_norm.items()},
        "process_group": None,
    }


def test_the_group_is_neither_shown_nor_an_option() -> None:
    layer = SyncBatchNorm(name="l")
    assert layer.process_group is None and copy.deepcopy(layer).process_group is None
    assert "process_group" not in layer.get_params() and "process_group" not in repr(layer)


def test_without_a_group_of_processes_it_is_batch_norm() -> None:
    network, twin = SyncBatchNorm.convert_sync_batchnorm(build()), build()
    assert_close(learn(network, batches()[0]), learn(twin, batches()[0]))
