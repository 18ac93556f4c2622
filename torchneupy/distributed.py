"""What training by several processes asks for beyond PyTorch's own tools, which take networks as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import Shard

from torchneupy.layers import BatchNorm
from torchneupy.layers.base import own_class

__all__ = ["SyncBatchNorm", "shard_placement"]

M = TypeVar("M", bound=nn.Module)

#: The share of the first axis that padding may add; less costs less than the copies that other axes need.
PADDING = 1 / 10


def shard_placement(parameter: nn.Parameter, n_shards: int | None = None) -> Shard | None:
    """The axis along which FSDP2 should divide a parameter; for ``fully_shard(..., shard_placement_fn=...)``.

    By itself FSDP2 divides the first axis, which for a convolution has the rows of the kernel, and for the variables of
    ``BatchNorm`` one element: of 8 processes 3 would hold the weight, or one, and what is sent is padded to 8 rows.
    This divides the first axis where that leaves little to pad, and otherwise the largest one that can be divided
    evenly; FSDP2 takes no others.

    Parameters
    ----------
    parameter : nn.Parameter
    n_shards : int or None
        Number of parts. Defaults to ``None``, which is the number of processes; where each part is kept by several
        processes (HSDP), give it with ``functools.partial``.

    Returns
    -------
    Shard or None
        ``None`` stands for the first axis.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.distributed import shard_placement
    >>> shard_placement(torch.nn.Parameter(torch.empty(3, 3, 64, 128)), n_shards=8)
    Shard(dim=3)
    >>> shard_placement(torch.nn.Parameter(torch.empty(784, 10)), n_shards=8) is None
    True
    """
    n_shards = distributed.get_world_size() if n_shards is None else n_shards
    shape = parameter.shape
    even = [axis for axis, size in enumerate(shape) if size % n_shards == 0]
    if not even or -shape[0] % n_shards <= PADDING * shape[0]:
        return None
    return Shard(max(even, key=lambda axis: shape[axis]))


class Gathered(torch.autograd.Function):
    """A tensor of each process of a group, in a row."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size(group))]
        distributed.all_gather(parts, tensor, group)
        return torch.stack(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient, group=ctx.group)
        return gradient[distributed.get_rank(ctx.group)], None


class SyncBatchNorm(BatchNorm):
    """Batch normalisation over the batches of all processes, as ``torch.nn.SyncBatchNorm``.

    A ``BatchNorm`` in training normalises what its own process has. This one takes mean and variance over the parts of
    all processes, which may differ in size, and its outputs, gradients and running statistics are those of
    ``BatchNorm`` for the joined batch. All processes have to run it equally often. Where there is one process, and in
    evaluation mode, it is ``BatchNorm``. It works on all devices, on CPUs with gloo too.

    Shapes and attributes are those of :class:`torchneupy.layers.BatchNorm`, and the other parameters too.

    Parameters
    ----------
    process_group : ProcessGroup or None
        The processes whose batches count as one, from ``torch.distributed.new_group`` or ``DeviceMesh.get_group``; this
        process is one of them. As torch's layer has it, an attribute that is neither shown nor stored. Defaults to
        ``None``, which stands for all processes.

    Examples
    --------
    >>> from torchneupy.distributed import SyncBatchNorm
    >>> from torchneupy.layers import *
    >>> network = Input(10) >> Linear(5) >> BatchNorm() >> Relu()
    >>> SyncBatchNorm.convert_sync_batchnorm(network)[2]
    SyncBatchNorm(axes=None, alpha=0.1, ..., name='batch-norm-1')
    """

    process_group: Any = None

    def __init__(
        self,
        axes: Sequence[int] | None = None,
        alpha: float = 0.1,
        beta: Any = 0,
        gamma: Any = 1,
        epsilon: float = 1e-5,
        running_mean: Any = 0,
        running_inv_std: Any = 1,
        name: str | None = None,
        process_group: Any = None,
    ) -> None:
        super().__init__(axes, alpha, beta, gamma, epsilon, running_mean, running_inv_std, name)
        self.process_group = process_group

    @classmethod
    def convert_sync_batchnorm(cls, module: M, process_group: Any = None) -> M:
        """Make every ``BatchNorm`` in a module a ``SyncBatchNorm``, with its variables, hooks and name.

        Unlike ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` it changes the layers themselves, so that they are
        still those of other networks that share them. Classes derived from ``BatchNorm`` are left alone.

        Parameters
        ----------
        module : nn.Module
        process_group : ProcessGroup or None
            As of the class; for the layers that are converted now.

        Returns
        -------
        nn.Module
            The module given.

        Raises
        ------
        TypeError
            If one has been given to ``fully_shard`` or parametrised already, which comes after this.
        """
        found = [part for part in module.modules() if own_class(part) is BatchNorm]
        for part in found:
            if type(part) is not BatchNorm:
                raise TypeError(f"Convert before fully_shard and parametrize, got {type(part).__name__}: {part}")
        for part in found:
            part.__class__ = cls
            part.process_group = process_group
        return module

    def _normalise_by_batch(self, input: Any) -> Any:
        group = self.process_group
        if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size(group) > 1):
            return super()._normalise_by_batch(input)
        axes, running = self.positive_axes(input.ndim), self.running_mean
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        count = values.numel() // running.numel()
        # Sums and not means, as a process may have nothing.
        mean = values.sum(axes, keepdim=True) / max(count, 1)
        squares = (values - mean).square().sum(axes, keepdim=True)
        gathered: Any = Gathered.apply
        own = torch.stack((torch.full_like(mean, count), mean, squares))
        counts, means, all_squares = gathered(own, group).unbind(1)
        total = counts.sum(0)
        mean = (counts * means).sum(0) / total
        variance = (all_squares + counts * (means - mean).square()).sum(0) / total
        inverse = (variance + self.epsilon).rsqrt()
        self._follow(mean.detach(), inverse.detach())
        return ((values - mean) * (inverse * self.gamma) + self.beta).to(input.dtype)
