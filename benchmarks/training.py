"""What the questions about networks share: what there is to do with one, and that rivals do it with our values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

__all__ = [
    "FORWARD",
    "FORWARD_AND_BACKWARD",
    "STEP",
    "WHOLE_STEP",
    "backward",
    "compiled",
    "forward",
    "forward_and_backward",
    "give_values",
    "step",
    "whole_step",
]

#: What is said of work in the names of questions.
FORWARD = "forward without gradients"
FORWARD_AND_BACKWARD = "forward and backward"
STEP = "training step"
WHOLE_STEP = "whole training step as one graph"


@torch.no_grad()
def give_values(own: nn.Module, rival: nn.Module) -> None:
    """Copy the values of our parameters into those of a rival in torch.nn, which has the last axes first.

    Raises
    ------
    ValueError
        If it has not as many, in the same order.
    """
    for mine, theirs in zip(own.parameters(), rival.parameters(), strict=True):
        order = (3, 2, 0, 1) if mine.ndim == 4 else tuple(reversed(range(mine.ndim)))
        theirs.copy_(mine.permute(order).reshape(theirs.shape))


def loss_of(output: torch.Tensor) -> torch.Tensor:
    """The mean of the squares; its gradient has the output's layout, which that of ``mean`` has not."""
    return output.square().sum() / output.numel()


def compiled(network: nn.Module) -> Any:
    """A network compiled for the sizes that it meets first."""
    torch.compiler.reset()  # or torch takes all networks of a class for one that changes, and gives up at the ninth
    return torch.compile(network, dynamic=False)


def forward(compute: Callable[[Any], Any], x: torch.Tensor) -> Callable[[], Any]:
    """One forward pass without gradients."""

    def work() -> Any:
        with torch.no_grad():
            return compute(x)

    return work


def backward(compute: Callable[[Any], Any], x: torch.Tensor) -> Callable[[], Any]:
    """Forward and backward to the input, through parameters if there are any."""
    leaf = x.detach().requires_grad_()
    gradients: list[torch.Tensor] = []

    def work() -> Any:
        leaf.grad = None
        output = compute(leaf)
        if not gradients:
            gradients.append(output.detach().sin())  # the same for all, in whatever order they have the axes
        output.backward(*gradients)
        return leaf.grad

    return work


def forward_and_backward(network: Any, x: torch.Tensor) -> Callable[[], Any]:
    """The gradients of all parameters."""

    def work() -> Any:
        network.zero_grad()
        loss = loss_of(network(x))
        loss.backward()
        return loss

    return work


def step(compute: Callable[[Any], Any], parameters: Iterable[nn.Parameter], x: torch.Tensor) -> Callable[[], Any]:
    """One training step: forward, backward, and an update by plain gradient descent."""
    optimizer = torch.optim.SGD(list(parameters), lr=1e-6)  # small, so that the numbers stay what they are

    def work() -> Any:
        optimizer.zero_grad()
        loss = loss_of(compute(x))
        loss.backward()
        optimizer.step()
        return loss

    return work


def whole_step(network: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    """The same as ``step``, compiled as one graph, by the recipe in README.rst."""
    rate = 1e-6

    def loss_and_buffers(
        parameters: dict[str, torch.Tensor], x: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        return loss_of(functional_call(network, {**parameters, **buffers}, (x,))), buffers

    @torch.no_grad()
    def update(x: torch.Tensor) -> Any:
        parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
        gradients, (loss, buffers) = grad_and_value(loss_and_buffers, has_aux=True)(parameters, x)
        for name, parameter in network.named_parameters():
            parameter.sub_(gradients[name], alpha=rate)
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
        return loss

    torch.compiler.reset()
    # The second network's other sizes would else be taken for sizes that change.
    return partial(torch.compile(update, fullgraph=True, dynamic=False), x)
