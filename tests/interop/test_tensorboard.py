"""TensorBoard's graph of networks."""

from __future__ import annotations

import pytest

from tests.interop.networks import every_case

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")

pytestmark = [
    # By torch, of what its own writer calls.
    pytest.mark.filterwarnings("ignore:.torch.jit.trace.* is deprecated"),
    # The graph is drawn for the sizes of one example, so shapes may be checked for these only.
    pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean might cause:torch.jit.TracerWarning"),
]


@every_case
def test_the_graph_has_every_layer_that_computes(case, device, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    network = case.network().to(device).eval()
    with SummaryWriter(tmp_path) as writer:
        writer.add_graph(network, case.inputs(device=device))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    names = [node.name for node in events.Graph().node]
    for layer in network:
        if any(True for _ in layer.parameters()):
            scope = f"LayerGraph/{type(layer).__name__}[{layer.name}]/"
            assert any(name.startswith(scope) for name in names), scope
            assert all(any(name.startswith(f"{scope}{key}/") for name in names) for key, _ in layer.named_parameters())
