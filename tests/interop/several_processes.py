"""What two processes compute together: torchrun.py starts this, and each leaves its results.

They are on the CPU, with gloo, wherever the tests run, because nccl wants a GPU for each process.

``torchrun --standalone --nproc-per-node 2 -m tests.interop.several_processes FOLDER``
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.interop.loops import calm
from tests.interop.networks import CASES, Case
from torchneupy.distributed import SyncBatchNorm, shard_placement
from torchneupy.layers import BatchNorm

BATCH, STEPS, SIZE = 8, 3, 2

#: How BatchNorm's batch is divided: a process may have more of it than the other, or all.
DIVISIONS = ((5, 3), (0, 8))
#: And its dtype, with the tolerance that it needs.
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def shard_each_layer(network: Any) -> Any:
    for layer in network:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, shard_placement_fn=shard_placement)
    return fully_shard(network, shard_placement_fn=shard_placement)


WAYS: dict[str, Callable[[Any], Any]] = {
    "DistributedDataParallel": DistributedDataParallel,
    "FSDP2": fully_shard,
    "FSDP2 with shard_placement": partial(fully_shard, shard_placement_fn=shard_placement),
    "FSDP2 of each layer": shard_each_layer,
    "FSDP2 in bfloat16": partial(fully_shard, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16)),
}
TOLERANCES = {"FSDP2 in bfloat16": 3e-2}
#: Those of which the processes save checkpoints together.
SAVED = ("DistributedDataParallel", "FSDP2 of each layer")


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def part_of(tensors: tuple[torch.Tensor, ...], rank: int) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.chunk(SIZE)[rank] for tensor in tensors)


def learn(case: Case, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    """Some steps, each process on its part of the batch. Gives the losses of the joined batch."""
    rank, losses = distributed.get_rank(), []
    for seed in range(STEPS):
        optimizer.zero_grad()
        outputs = model(*part_of(case.inputs(BATCH, seed), rank))
        loss = case.loss(outputs, part_of(case.targets(BATCH, seed), rank))
        loss.backward()
        optimizer.step()
        mean = loss.detach() / SIZE
        distributed.all_reduce(mean)
        losses.append(mean.item())
    return losses


def learn_alone(case: Case, network: Any, optimizer: torch.optim.Optimizer, n_parts: int) -> list[float]:
    """What several processes do, by one; the statistics that stay are those of the first part."""
    losses = []
    for seed in range(STEPS):
        optimizer.zero_grad()
        inputs, targets = case.inputs(BATCH, seed), case.targets(BATCH, seed)
        before = [buffer.clone() for buffer in network.buffers()]
        mean = torch.zeros(())
        for rank in reversed(range(n_parts)):
            for buffer, value in zip(network.buffers(), before, strict=True):
                buffer.copy_(value)
            parts = (inputs, targets) if n_parts == 1 else (part_of(inputs, rank), part_of(targets, rank))
            loss = case.loss(network(*parts[0]), parts[1]) / n_parts
            loss.backward()
            mean += loss.detach()
        optimizer.step()
        losses.append(mean.item())
    return losses


def run(case: Case, wrap: Callable[[Any], Any], synchronised: bool, checkpoint: Path | None) -> dict[str, Any]:
    network = calm(case)
    if synchronised:
        SyncBatchNorm.convert_sync_batchnorm(network)
    model = wrap(network)
    optimizer = optimizer_of(model)
    losses = learn(case, model, optimizer)
    if checkpoint is not None:
        values, of_optimizer = get_state_dict(model, optimizer)
        save({"network": values, "optimizer": of_optimizer}, checkpoint_id=checkpoint)
    whole = StateDictOptions(full_state_dict=True)
    state: dict[str, Any] = get_model_state_dict(model, options=whole)
    state = {key: tensor.clone() for key, tensor in state.items()}
    held = [p.to_local() if hasattr(p, "to_local") else p for p in model.parameters()]
    set_model_state_dict(model, calm(case, seed=1).state_dict(), options=whole)
    return {
        "losses": losses,
        "state": state,
        "held": sum(tensor.numel() for tensor in held),
        "predicted": network.predict(*case.inputs(), verbose=False),
    }


def make_norm() -> Any:
    layer = BatchNorm(axes=(0, 2), gamma=torch.arange(1.0, 5.0).view(1, 4, 1), epsilon=0.1)
    layer.create_variables((None, 4, 5))
    return layer


def make_batch(dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(BATCH, 4, 5, generator=torch.Generator().manual_seed(0)) + 3).to(dtype)


def normalise(layer: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, gradients and statistics of a layer of batch normalisation."""
    x.requires_grad_()
    output = layer(x)
    output.float().pow(3).sum().backward()
    gradients = {"x": x.grad, "gamma": layer.gamma.grad, "beta": layer.beta.grad}
    return {"output": output.detach(), "mean": layer.running_mean, "inverse": layer.running_inv_std, **gradients}


def main(folder: Path) -> None:
    warnings.simplefilter("error")
    # Of the view that a convolution gives: nothing here writes into it.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = distributed.get_rank()
    found = {
        (name, way, synchronised): run(
            case, wrap, synchronised, folder / f"{name}, {way}" if synchronised and way in SAVED else None
        )
        for name, case in CASES.items()
        for way, wrap in WAYS.items()
        for synchronised in (True, False)
    }
    norms = {
        (sizes, dtype): normalise(
            SyncBatchNorm.convert_sync_batchnorm(make_norm()), make_batch(dtype).split(sizes)[rank]
        )
        for sizes in DIVISIONS
        for dtype in DTYPES
    }
    torch.save((found, norms), folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
