"""``torch.use_deterministic_algorithms``: nothing is refused, and a run repeats itself to the bit.

On CUDA cuBLAS needs ``CUBLAS_WORKSPACE_CONFIG``, which tests/plugin.py sets before CUDA starts.
"""

from collections.abc import Iterator

import pytest
import torch

from tests.interop.networks import equal_states, every_case, train


@pytest.fixture(autouse=True)
def only_deterministic_algorithms() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@every_case
def test_a_run_repeats_itself(case, device):
    finished = []
    for _ in range(2):
        torch.manual_seed(0)
        network = case.network().to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
        losses = train(case, network, optimizer, steps=4, batch=16, device=device)
        finished.append((network, losses))
    (network, losses), (twin, its_losses) = finished
    equal_states(network, twin)
    assert losses == its_losses
