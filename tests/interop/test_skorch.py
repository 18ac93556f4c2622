"""skorch's estimators around networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.interop.loops import BATCH, EPOCHS, N_SAMPLES, RATE, calm, learn
from tests.interop.networks import CASES, Case, copied_state, equal_states, every_case
from torchneupy.layers import LayerGraph

pytest.importorskip("skorch", reason="skorch is not installed")


class ByName(nn.Module):
    """A network whose inputs come as keyword arguments, in which skorch gives the arrays of a dictionary."""

    def __init__(self, network: LayerGraph) -> None:
        super().__init__()
        self.network = network

    def forward(self, **inputs: torch.Tensor) -> Any:
        return self.network(inputs)


class Loss(nn.Module):
    """The loss of a case, whose targets stand side by side."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        return self.case.loss(outputs, targets.split(self.case.outputs, dim=1))


def make_net(case: Case, device: str) -> Any:
    from skorch import NeuralNet

    network = calm(case)
    return NeuralNet(
        ByName(network) if len(case.shapes) > 1 else network,
        criterion=Loss(case),
        optimizer=torch.optim.SGD,
        lr=RATE,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        train_split=None,
        verbose=0,
        device=device,
    )


def data_of(case: Case) -> tuple[Any, Any]:
    inputs = [x.numpy() for x in case.inputs(N_SAMPLES)]
    names = [layer.name for layer in case.network().input_layers]
    return dict(zip(names, inputs, strict=True)) if len(inputs) > 1 else inputs[0], torch.cat(
        case.targets(N_SAMPLES), 1
    ).numpy()


@every_case
def test_a_network_is_fitted_and_predicts(case, device):
    net, (x, y) = make_net(case, device), data_of(case)
    net.fit(x, y)
    network = net.module_.network if len(case.shapes) > 1 else net.module_
    expected = learn(case, calm(case), device)
    equal_states(network, expected)
    arrays = expected.predict(*case.inputs(N_SAMPLES), verbose=False)
    np.testing.assert_allclose(net.predict(x), arrays[0] if isinstance(arrays, tuple) else arrays, rtol=1e-5, atol=1e-6)


def test_a_network_is_searched_for_by_scikit_learn(device):
    """Which copies the estimator for each try: the network that it was given stays as it is."""
    from sklearn.model_selection import GridSearchCV

    case = CASES["dense"]
    x, _ = data_of(case)
    teacher = case.network(seed=5).predict(x, verbose=False)
    net = make_net(case, device).set_params(max_epochs=20)
    before = copied_state(net.module)
    search = GridSearchCV(net, {"lr": [0.0, 0.5]}, cv=2, scoring="neg_mean_squared_error").fit(x, teacher)
    assert search.best_params_ == {"lr": 0.5}
    equal_states(net.module, before)


@every_case
def test_scikit_learn_copies_a_network(case):
    from sklearn.base import clone

    network = case.network()
    twin = clone(network)
    equal_states(twin, network)
    assert {tensor.data_ptr() for tensor in twin.parameters()}.isdisjoint(p.data_ptr() for p in network.parameters())
