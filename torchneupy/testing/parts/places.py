"""Parts about types and devices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchneupy.layers import ModuleLayer
from torchneupy.testing.parts.table import Parts, are_equal, ensure, go_back, mode_of
from torchneupy.testing.subject import Subject, all_tensors, named_tensors

__all__ = ["PARTS", "Devices"]

PARTS = Parts()

#: What torch says where it cannot compute something in a type.
WITHOUT_KERNEL = re.compile(r"not implemented for '?BFloat16|Unsupported dtype BFloat16")


@PARTS.add(
    "dtypes",
    "Make new tensors by `torch.zeros_like(x)`, `x.new_zeros(...)` or with `dtype=x.dtype`, and keep tensors as "
    "variables or buffers, which `.to()` converts, and which `self.variable` makes in torch's default type; convert "
    "nothing to a type of its own, as `float()` does.",
)
def computes_in_other_types(subject: Subject) -> None:
    """After ``.to(dtype)`` everything is computed in that type; variables are made in torch's default type."""
    wanted = subject.run()
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.03)):
        network = subject.again().to(dtype)
        fed = [x.to(dtype) if x.is_floating_point() else x for x in subject.inputs]
        try:
            found = subject.run(network, fed)
        except RuntimeError as error:
            if dtype is torch.bfloat16 and WITHOUT_KERNEL.search(str(error)):
                continue
            raise
        converted = [output.to(single.dtype) for output, single in zip(found, wanted, strict=True)]
        are_equal(converted, wanted, f"After .to({dtype}) another output comes out", tolerance)
        for training, outputs in ((False, found), (True, subject.run(network, fed, training=True))):
            for output, single in zip(outputs, wanted, strict=True):
                text = f"After .to({dtype}), in {mode_of(training)}, {output.dtype} comes out"
                ensure(not single.is_floating_point() or output.dtype is dtype, text)
        are_of_type(network, dtype, f"After .to({dtype})")
    # A module may be given its values, whose type is then that of its maker's choice.
    if subject.make_layer is not None and not isinstance(subject.checked, ModuleLayer):
        with default_dtype(torch.float64):
            are_of_type(subject.make(), torch.float64, "Made where float64 is torch's default type")


def are_of_type(network: Any, dtype: torch.dtype, when: str) -> None:
    """All numbers of a network but whole ones are of a type."""
    others = [name for name, value in all_tensors(network) if value.is_floating_point() and value.dtype is not dtype]
    ensure(not others, f"{when}, of another type: {', '.join(others)}")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Devices(TorchDispatchMode):
    """Notes on which devices tensors are made."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)  # by its name, as it has no type hints
        self.found: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is not torch.ops.aten.lift_fresh.default:  # so torch.tensor begins to read an array
            self.found |= {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result

    @property
    def elsewhere(self) -> str:
        """The devices on which tensors were made besides ``meta``."""
        return ", ".join(sorted(self.found - {"meta"}))


def run_on_meta(subject: Subject, network: Any, devices: Devices, when: str) -> Sequence[torch.Tensor]:
    """Run a network whose tensors are on ``meta``, forth and back, in both modes.

    Returns
    -------
    sequence of Tensor
        The outputs in evaluation mode.
    """
    for training in (True, False):
        fed = [torch.empty_like(x, device="meta", requires_grad=x.is_floating_point()) for x in subject.inputs]
        with devices:
            outputs = subject.run(network, fed, training=training)
            go_back(outputs)
        ensure(all(output.is_meta for output in outputs), f"{when} the output is on another device")
    ensure(not devices.elsewhere, f"{when} tensors are made on {devices.elsewhere}")
    return outputs


@PARTS.add(
    "moves",
    "Keep tensors as variables, `self.variable(..., trainable=False)`, or by `register_buffer`, and read them from "
    "there at each call: `.to()` replaces them, and does not see a plain attribute.",
)
def moves_with_all_its_tensors(subject: Subject) -> None:
    """All tensors go where ``.to()`` takes the network, and it computes there."""
    network = subject.again()
    for training in (True, False):
        subject.run(network, training=training)
    plain = [name for name, _ in named_tensors(network)]
    network.to("meta")
    left = [name for name, value in all_tensors(network) if not value.is_meta]
    ensure(not left, f".to() leaves {', '.join(f'`{name}`' for name in left or plain)} behind")
    run_on_meta(subject, network, Devices(), 'After .to("meta")')


@PARTS.add(
    "meta",
    "Make tensors where the input is, `device=x.device` or `torch.zeros_like(x)`, and variables by `self.variable`, on "
    "torch's default device; ask for no values (`item()`, `if x.sum() > 0`), which there are none of.",
    layers_only=True,
)
def runs_on_meta(subject: Subject) -> None:
    """Made on ``meta``, it gives the right shapes there, makes no tensor elsewhere, and can get its values later."""
    generator = torch.get_rng_state()
    with torch.device("meta"), Devices() as devices:
        network = subject.make()
    ensure(torch.equal(torch.get_rng_state(), generator), "Made under torch.device('meta'), it draws random numbers")
    outputs = run_on_meta(subject, network, devices, "Made under torch.device('meta'),")
    wanted = subject.run()
    for output, expected in zip(outputs, wanted, strict=True):
        text = f"On meta the shape is {tuple(output.shape)}, elsewhere {tuple(expected.shape)}"
        ensure(output.shape == expected.shape, text)
    state = subject.network.state_dict()
    network.to_empty(device="cpu").load_state_dict(state)
    own = dict(network.named_buffers())
    for name, buffer in subject.network.named_buffers():
        if name not in state:  # a constant, perhaps, which whoever makes it on meta has to fill in
            own[name].copy_(buffer)
    what = "Made under torch.device('meta'), and with the same values from load_state_dict, it computes something else"
    are_equal(subject.run(network), wanted, what, tolerance=1e-6)


@contextmanager
def in_all_bits() -> Iterator[None]:
    """Without TF32, in which newer GPUs compute convolutions by default, a thousand times further from the CPU."""
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cublas.allow_tf32
    cudnn.allow_tf32, cublas.allow_tf32 = False, False
    try:
        yield
    finally:
        cudnn.allow_tf32, cublas.allow_tf32 = before


@PARTS.add("cuda", "Make new tensors where the input is, `device=x.device`, and keep tensors as variables or buffers.")
def runs_on_cuda(subject: Subject) -> None:
    """On CUDA, where there is one, outputs are those of the CPU, and training works."""
    if not torch.cuda.is_available():
        return
    network = subject.again().to("cuda")
    fed = [x.to("cuda") for x in subject.inputs]
    with in_all_bits():
        found = [output.cpu() for output in subject.run(network, fed)]
    are_equal(found, subject.run(), "On CUDA another output comes out", tolerance=1e-4)
    outputs = subject.run(network, fed, training=True)
    ensure(all(output.is_cuda for output in outputs), "On CUDA the output is on another device")
    go_back(outputs)
