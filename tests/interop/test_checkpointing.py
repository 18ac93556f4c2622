"""``torch.utils.checkpoint``: parts that are computed again in the backward pass, with the same gradients."""

import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.interop.networks import CASES, Case, equal_states, every_case, every_differentiable_case, gradients
from torchneupy.layers import LSTM, Convolution, Linear


@every_case
def test_a_checkpointed_network_has_the_same_gradients(case, device):
    has_the_same_gradients(case, case.inputs(device=device), use_reentrant=False)


@every_differentiable_case
def test_the_reentrant_kind_does_where_an_input_asks_for_gradients(case, device):
    inputs = tuple(x.requires_grad_() for x in case.inputs(device=device))
    has_the_same_gradients(case, inputs, use_reentrant=True)


def has_the_same_gradients(case: Case, inputs: tuple[torch.Tensor, ...], use_reentrant: bool) -> None:
    network, twin = (case.network().to(inputs[0].device) for _ in range(2))
    torch.manual_seed(0)
    outputs = checkpoint(network, *inputs, use_reentrant=use_reentrant)
    case.loss(outputs).backward()
    torch.manual_seed(0)
    expected = twin(*(x.detach() for x in inputs))
    case.loss(expected).backward()
    assert_close(outputs, expected)
    assert_close(gradients(network), gradients(twin))


@every_case
def test_wrapped_layers_are_the_ones_that_are_checkpointed(case, device):
    """In evaluation: computed twice, BatchNorm would learn its statistics twice, as torch's own does."""
    network, twin = (case.network().eval().to(device) for _ in range(2))
    inputs = case.inputs(device=device)
    runs = []
    apply_activation_checkpointing(network, check_fn=lambda layer: isinstance(layer, (Convolution, Linear, LSTM)))
    wrapped = [child for child in network if hasattr(child, "_checkpoint_wrapped_module")]
    for child in wrapped:
        child._checkpoint_wrapped_module.register_forward_pre_hook(lambda layer, inputs: runs.append(layer))
    outputs = network(*inputs)
    assert_close(outputs, twin(*inputs))
    assert len(runs) == len(wrapped) > 0
    case.loss(outputs).backward()
    case.loss(twin(*inputs)).backward()
    assert len(runs) > len(wrapped)
    ours = [parameter.grad for parameter in network.parameters()]
    assert_close(ours, [parameter.grad for parameter in twin.parameters()])
    equal_states(network, twin)


def test_a_chain_is_checkpointed_part_by_part(device):
    case: Case = CASES["dense"]
    network, twin = (case.network().to(device) for _ in range(2))
    losses = []
    for run in (lambda x: checkpoint_sequential(network, 2, x, use_reentrant=False), twin):
        torch.manual_seed(0)
        losses.append(case.loss(run(*case.inputs(device=device))))
        losses[-1].backward()
    assert_close(*losses)
    assert_close(gradients(network), gradients(twin))
