"""``torch.utils.checkpoint``: parts that are computed again in the backward pass, with the same gradients."""

import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointWrapper,
    apply_activation_checkpointing,
)
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.interop.networks import (
    ALL,
    Case,
    Shifted,
    equal_states,
    every_case_of_all,
    every_differentiable_case,
    gradients,
    train,
)
from torchneupy.layers import LSTM, BaseLayer, BatchNorm, Convolution, Input, Linear


@every_case_of_all
def test_a_checkpointed_network_has_the_same_gradients(case, device):
    has_the_same_gradients(case, case.inputs(device=device), use_reentrant=False)


@every_differentiable_case
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_both_kinds_do_where_an_input_asks_for_gradients(case, use_reentrant, device):
    inputs = tuple(x.requires_grad_() for x in case.inputs(device=device))
    has_the_same_gradients(case, inputs, use_reentrant)


def has_the_same_gradients(case: Case, inputs: tuple[torch.Tensor, ...], use_reentrant: bool) -> None:
    network, twin = (case.network().to(inputs[0].device) for _ in range(2))
    torch.manual_seed(0)
    outputs = checkpoint(network, *inputs, use_reentrant=use_reentrant)
    case.loss(outputs).backward()
    torch.manual_seed(0)
    leaves = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
    expected = twin(*leaves)
    case.loss(expected).backward()
    assert_close(outputs, expected)
    assert_close(gradients(network), gradients(twin))
    assert_close([x.grad for x in inputs if x.requires_grad], [x.grad for x in leaves if x.requires_grad])


@every_case_of_all
def test_wrapped_layers_are_the_ones_that_run_again(case, device):
    """In evaluation: computed twice, BatchNorm would learn its statistics twice, as torch's own does."""
    network, twin = (case.network().eval().to(device) for _ in range(2))
    inputs = case.inputs(device=device)
    runs = []
    for layer in network:
        layer.register_forward_pre_hook(lambda layer, given: runs.append(layer))
    chosen = (Convolution, Linear, LSTM, Shifted)
    apply_activation_checkpointing(network, check_fn=lambda layer: isinstance(layer, chosen))
    wrapped = [child for child in network if isinstance(child, CheckpointWrapper)]
    assert wrapped
    outputs = network(*inputs)
    assert_close(outputs, case.reference(twin.state_dict(), *inputs))
    assert len(runs) == len(network)
    case.loss(outputs).backward()
    case.loss(twin(*inputs)).backward()
    # Backward computed the wrapped layers once more, instead of keeping what they need.
    assert {id(layer) for layer in runs[len(network) :]} == {id(child._checkpoint_wrapped_module) for child in wrapped}
    assert_close(list(gradients(network).values()), list(gradients(twin).values()))
    equal_states(network, twin)
    twin.load_state_dict(network.state_dict(), strict=True)


@every_case_of_all
def test_activation_checkpointing_changes_nothing_of_what_is_learnt(case, device):
    """But for BatchNorm, whose statistics would move again when it is computed again, as those of torch's own do."""
    network, twin = case.network().to(device), case.network().to(device)
    apply_activation_checkpointing(
        network, check_fn=lambda module: isinstance(module, BaseLayer) and not isinstance(module, (BatchNorm, Input))
    )
    assert any(isinstance(layer, CheckpointWrapper) for layer in network)
    losses = []
    for one in (network, twin):
        torch.manual_seed(3)
        losses.append(train(case, one, torch.optim.SGD(one.parameters(), lr=0.1), steps=3, device=device))
    assert_close(*losses)
    equal_states(network.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "chain"])
def test_a_chain_is_checkpointed_part_by_part(name, device):
    case: Case = ALL[name]
    network, twin = (case.network().to(device) for _ in range(2))
    (x,) = case.inputs(device=device)
    losses = []

    def by_parts(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = checkpoint_sequential(network, 2, x, use_reentrant=False)
        return found

    for run in (by_parts, twin):
        torch.manual_seed(0)
        losses.append(case.loss(run(x)))
        losses[-1].backward()
    assert_close(*losses)
    assert_close(gradients(network), gradients(twin))
    network.eval()
    assert_close(by_parts(x), case.reference(network.state_dict(), x))
