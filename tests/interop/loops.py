"""Training of the four networks by hand, and what it takes to have a framework do the same."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.interop.networks import Case
from torchneupy.layers import Dropout

N_SAMPLES, BATCH, EPOCHS, RATE = 16, 4, 2, 0.1


def calm(case: Case, seed: int = 0) -> Any:
    """The network in training, with a Dropout that keeps everything, so that nothing is drawn."""
    network = case.network(seed)
    for layer in network:
        if isinstance(layer, Dropout):
            layer.proba = 0
    return network


def load(case: Case) -> DataLoader[tuple[torch.Tensor, ...]]:
    """Batches of the inputs and then the targets, always in one order."""
    return DataLoader(TensorDataset(*case.inputs(N_SAMPLES), *case.targets(N_SAMPLES)), batch_size=BATCH)


def loss_of(case: Case, network: Any, batch: Any) -> torch.Tensor:
    n_inputs = len(case.shapes)
    return case.loss(network(*batch[:n_inputs]), tuple(batch[n_inputs:]))


def learn(case: Case, network: Any, device: str = "cpu") -> Any:
    """What a framework should do: some epochs of plain descent."""
    optimizer = torch.optim.SGD(network.to(device).parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for batch in load(case):
            optimizer.zero_grad()
            loss_of(case, network, [tensor.to(device) for tensor in batch]).backward()
            optimizer.step()
    return network
