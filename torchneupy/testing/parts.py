"""What is promised of every layer and every network, promise by promise.

Each part is a function of a :class:`Subject` that raises AssertionError, or anything, where the promise is not kept.
"""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck
from torch.func import functional_call
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchneupy.core.shape import TensorShape
from torchneupy.testing.subject import Subject, as_tuple, call, copied_state, declared_shapes, named_tensors

__all__ = ["PARTS", "Part"]

Check: TypeAlias = Callable[[Subject], None]


@dataclass(frozen=True)
class Part:
    """One promise.

    Attributes
    ----------
    check : callable
        Takes a Subject.
    remedy : str
        How a layer that breaks the promise is mended.
    layers_only : bool
        Whether only a layer that is newly made can be asked.
    """

    check: Check
    remedy: str
    layers_only: bool = False


#: The parts by name, in the order in which they are asked.
PARTS: dict[str, Part] = {}


def part(name: str, remedy: str, layers_only: bool = False) -> Callable[[Check], Check]:
    """Put a check into the table."""

    def decorate(check: Check) -> Check:
        PARTS[name] = Part(check, remedy, layers_only)
        return check

    return decorate


def ensure(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def described(tensors: Sequence[torch.Tensor]) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)


def mode_of(training: bool) -> str:
    return "training mode" if training else "evaluation mode"


def are_equal(found: Sequence[Any], wanted: Sequence[Any], what: str, tolerance: float = 0) -> None:
    """Raise AssertionError with a text that begins with ``what`` if tensors differ."""
    for one, other in zip(found, wanted, strict=True):
        assert_close(
            one.detach(),
            other.detach(),
            rtol=10 * tolerance,
            atol=tolerance,
            equal_nan=True,
            msg=lambda text: f"{what}. {text}",
        )


# Shapes


@part("shape", "Let `get_output_shape` give the shape of what `output` returns, the batch first.")
def has_the_declared_shape(subject: Subject) -> None:
    """The declared shape is that of the output, for any batch, and in both modes."""
    for trial, training, batch in itertools.product(subject.trials, (False, True), (1, 2, 3)):
        if training and batch == 1:
            continue  # of one sample there is no variance
        inputs = subject.draw(batch, trial)
        outputs = subject.run(inputs=inputs, training=training)
        declared = declared_shapes(subject.network, [tuple(x.shape) for x in inputs])
        for found, output in zip(declared, outputs, strict=True):
            where = f"for inputs of the shape {described(inputs)}, in {mode_of(training)}"
            ensure(found.ndims is not None, f"No shape is declared, but {tuple(output.shape)} comes out {where}")
            ensure(found == tuple(output.shape), f"Declared is {found}, but {tuple(output.shape)} comes out {where}")


@part(
    "unknown_sizes",
    "Sizes in the argument of `get_output_shape` may be None: what depends on one of them is None as well.",
)
def declares_no_more_than_is_true(subject: Subject) -> None:
    """With some sizes unknown, what is declared agrees with what is declared for those of the inputs."""
    known = [tuple(x.shape) for x in subject.inputs]
    wanted = declared_shapes(subject.checked, known)
    choices: list[list[Any]] = [[(None,) * len(each) for each in known], [None for _ in known]]
    # One input at a time, and above all of them at once: all combinations of several inputs would be too many.
    for place, each in enumerate(known):
        hidden = [*itertools.product(*((size, None) for size in each)), None]
        choices += [[*known[:place], one, *known[place + 1 :]] for one in hidden]
    for shapes in choices:
        given = ", ".join(str(TensorShape(shape)) for shape in shapes)
        try:
            declared = declared_shapes(subject.checked, shapes)
        except Exception as error:
            raise AssertionError(f"get_output_shape fails for {given}: {type(error).__name__}: {error}") from error
        for found, full in zip(declared, wanted, strict=True):
            ensure(found.is_compatible_with(full), f"Declared is {found} for {given}, but {full} once all is known")


# Modes


@part(
    "modes",
    "Take the mode from the argument, as in `output(self, x, training=False)`, not from `self.training`: `forward` "
    "passes it on.",
)
def goes_by_the_flag(subject: Subject) -> None:
    """Calling in a mode gives what ``output`` gives with that flag, whatever the mode is then."""
    for training in (True, False):
        called = subject.run(subject.again(), training=training)
        for mode in (True, False):
            network = subject.again().train(mode)
            found = call(network.output, [x.clone() for x in subject.inputs], training=training)
            what = f"Called in {mode_of(training)}, and `output(training={training})` in {mode_of(mode)}, differ"
            are_equal(found, called, what, tolerance=1e-6)
            ensure(all(module.training is mode for module in network.modules()), "`output` changes the mode")


@part("evaluation", "Draw random numbers, and change buffers, only where `training` is true.")
def is_determined_in_evaluation(subject: Subject) -> None:
    """In evaluation mode nothing is random, and nothing changes."""
    before, generator = copied_state(subject.network), torch.get_rng_state()
    first = subject.run(seed=1)
    are_equal(subject.run(seed=2), first, "In evaluation mode two calls give different outputs")
    with torch.no_grad():
        subject.network(*subject.inputs)
    ensure(torch.equal(torch.get_rng_state(), generator), "In evaluation mode random numbers are drawn")
    for key, value in subject.network.state_dict().items():
        are_equal([value], [before[key]], f"In evaluation mode `{key}` changes")


@part(
    "inputs",
    "Write into no input and no parameter: leave out operations in place (`x += 1`, `x.relu_()`), or copy first.",
)
def leaves_inputs_alone(subject: Subject) -> None:
    """Inputs and parameters stay as they are."""
    before = [x.clone() for x in subject.inputs]
    parameters = {name: value.detach().clone() for name, value in subject.network.named_parameters()}
    for training, gradients in itertools.product((False, True), repeat=2):
        with torch.set_grad_enabled(gradients):
            call(subject.network.train(training), subject.inputs)
        are_equal(subject.inputs, before, f"In {mode_of(training)} an input is changed")
    for name, value in subject.network.named_parameters():
        are_equal([value], [parameters[name]], f"A call changes the parameter `{name}`")


# Gradients


@part(
    "gradients",
    "Compute with torch's functions on the tensors themselves: `detach()`, `.data`, `item()`, `numpy()`, `no_grad()` "
    "cut the gradient off. What is not to be trained is a variable with `trainable=False`.",
)
def has_the_gradients_of_its_function(subject: Subject) -> None:
    """The gradients by inputs and parameters are those of finite differences, and reach every parameter."""
    network = subject.again().double()
    values = {name: value.detach() for name, value in network.named_parameters()}
    values |= {f"input {place}": x.double() for place, x in enumerate(subject.inputs) if x.is_floating_point()}
    for training in (False, True):
        network.train(training)
        problem = failing_gradient(subject, network, values, list(values))
        if problem:
            names = [name for name in values if failing_gradient(subject, network, values, [name])]
            named = ", ".join(f"`{name}`" for name in names or values)
            raise AssertionError(f"In {mode_of(training)} the gradient by {named} is wrong. {problem}")
    parameters = dict(network.named_parameters())
    go_back(subject.run(network, doubled(subject.inputs), training=True))
    lost = ", ".join(f"`{name}`" for name, value in parameters.items() if value.requires_grad and value.grad is None)
    ensure(not lost, f"No gradient reaches {lost}")


def go_back(outputs: Sequence[Any]) -> None:
    """Take the gradient of one number that depends on all outputs, if there is any."""
    parts = [output.square().sum() for output in outputs if output.requires_grad]
    if parts:
        torch.stack(parts).sum().backward()


def doubled(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [x.double() if x.is_floating_point() else x for x in inputs]


def failing_gradient(subject: Subject, network: Any, values: dict[str, torch.Tensor], names: list[str]) -> str:
    """What torch finds wrong in the gradient by some parameters and inputs; empty where all is well."""
    if not names:
        return ""

    def compute(*tensors: torch.Tensor) -> Any:
        given = {**values, **dict(zip(names, tensors, strict=True))}
        fed = [given.get(f"input {place}", x) for place, x in enumerate(subject.inputs)]
        state = {name: value for name, value in given.items() if name in parameters}
        state |= {name: value.clone() for name, value in network.named_buffers()}
        twin = copy.deepcopy(network)  # a call may change more than buffers
        return call(lambda *given: functional_call(twin, state, given), fed)

    parameters = dict(network.named_parameters())
    leaves = [values[name].detach().clone().requires_grad_() for name in names]
    try:
        gradcheck(compute, leaves, fast_mode=True)
    except GradcheckError as error:
        return str(error).strip().splitlines()[0]
    return ""


# State and copies


@part(
    "state_dict",
    "Keep what changes or is drawn as a variable, `self.variable(..., trainable=False)`, or by `register_buffer` "
    "without `persistent=False`; a plain attribute is not in the state_dict.",
)
def comes_back_from_its_state(subject: Subject) -> None:
    """A new layer that gets the state computes the same."""
    trained, new = subject.again(), subject.fresh(seed=subject.seed + 1)
    for step in range(3):
        subject.run(trained, subject.draw(batch=4 + step), training=True, seed=step)
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    new.load_state_dict(torch.load(file, weights_only=True))
    lost = [name for name, _ in trained.named_buffers() if name not in trained.state_dict()]
    lost += [name for name, _ in named_tensors(trained)]
    hint = f" (not in the state_dict: {', '.join(lost)})" if lost else ""
    for training in (False, True):
        what = f"After load_state_dict, in {mode_of(training)}, a new one computes something else{hint}"
        are_equal(subject.run(new, training=training), subject.run(trained, training=training), what, tolerance=1e-6)


@part(
    "deepcopy",
    "Let a copy have its own tensors: keep none in closures, in class attributes, or in a `__deepcopy__` of your own.",
)
def has_copies_of_its_own(subject: Subject) -> None:
    """A deep copy computes the same, and shares nothing."""
    twin, wanted = copy.deepcopy(subject.network), subject.run()
    are_equal(subject.run(twin), wanted, "The copy computes something else")
    ours = {value.data_ptr(): name for name, value in all_tensors(subject.network) if value.numel()}
    shared = [name for name, value in all_tensors(twin) if value.numel() and value.data_ptr() in ours]
    ensure(not shared, f"The copy shares the memory of {', '.join(shared)}")
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    are_equal(subject.run(), wanted, "The original changes with its copy")


def all_tensors(network: Any) -> Iterator[tuple[str, torch.Tensor]]:
    return itertools.chain(network.named_parameters(), network.named_buffers(), named_tensors(network))


@part(
    "pickle",
    "Define the class, and the functions that it is given, at the top level of a module: pickle finds them by name.",
)
def comes_back_from_pickle(subject: Subject) -> None:
    """It can be pickled, and comes back computing the same."""
    twin = pickle.loads(pickle.dumps(subject.network))
    are_equal(subject.run(twin), subject.run(), "What comes back computes something else")


# Types and devices


@part(
    "dtypes",
    "Make new tensors by `torch.zeros_like(x)`, `x.new_zeros(...)` or with `dtype=x.dtype`, and keep tensors as "
    "variables or buffers, which `.to()` converts.",
)
def computes_in_other_types(subject: Subject) -> None:
    """After ``.to(dtype)`` everything is computed in that type."""
    wanted = subject.run()
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.1)):
        network = subject.again().to(dtype)
        fed = [x.to(dtype) if x.is_floating_point() else x for x in subject.inputs]
        found = subject.run(network, fed)
        converted = [output.to(single.dtype) for output, single in zip(found, wanted, strict=True)]
        are_equal(converted, wanted, f"After .to({dtype}) another output comes out", tolerance)
        for training, outputs in ((False, found), (True, subject.run(network, fed, training=True))):
            for output, single in zip(outputs, wanted, strict=True):
                text = f"After .to({dtype}), in {mode_of(training)}, {output.dtype} comes out"
                ensure(not single.is_floating_point() or output.dtype is dtype, text)


@part(
    "moves",
    "Keep tensors as variables, `self.variable(..., trainable=False)`, or by `register_buffer`, and read them from "
    "there at each call: `.to()` replaces them, and does not see a plain attribute.",
)
def moves_with_all_its_tensors(subject: Subject) -> None:
    """All tensors go where ``.to()`` takes the network."""
    network = subject.again()
    for training in (True, False):
        subject.run(network, training=training)
    plain = [name for name, _ in named_tensors(network)]
    network.to("meta")
    left = [name for name, value in all_tensors(network) if not value.is_meta]
    ensure(not left, f".to() leaves {', '.join(f'`{name}`' for name in left or plain)} behind")
    outputs = subject.run(network, [x.to("meta") for x in subject.inputs])
    ensure(all(output.is_meta for output in outputs), "After .to() the output is on the device from before")


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


@part(
    "meta",
    "Make tensors where the input is, `device=x.device` or `torch.zeros_like(x)`, and variables by `self.variable`, on "
    "torch's default device; ask for no values (`item()`, `if x.sum() > 0`), which there are none of.",
    layers_only=True,
)
def runs_on_meta(subject: Subject) -> None:
    """On ``meta`` shapes come out right, and no tensor is made elsewhere."""
    with torch.device("meta"), Devices() as devices:
        network = subject.make()
    with Devices() as more:
        for training in (True, False):
            fed = [torch.empty_like(x, device="meta") for x in subject.inputs]
            outputs = subject.run(network, fed, training=training)
    elsewhere = ", ".join(sorted((devices.found | more.found) - {"meta"}))
    ensure(not elsewhere, f"Made under torch.device('meta'), there are tensors on {elsewhere}")
    for output, wanted in zip(outputs, subject.run(), strict=True):
        text = f"On meta the shape is {tuple(output.shape)}, elsewhere {tuple(wanted.shape)}"
        ensure(output.shape == wanted.shape, text)


@part("cuda", "Make new tensors where the input is, `device=x.device`, and keep tensors as variables or buffers.")
def runs_on_cuda(subject: Subject) -> None:
    """On CUDA, where there is one, outputs are those of the CPU, and training works."""
    if not torch.cuda.is_available():
        return
    network = subject.again().to("cuda")
    fed = [x.to("cuda") for x in subject.inputs]
    found = [output.cpu() for output in subject.run(network, fed)]
    are_equal(found, subject.run(), "On CUDA another output comes out", tolerance=1e-4)
    outputs = subject.run(network, fed, training=True)
    ensure(all(output.is_cuda for output in outputs), "On CUDA the output is on another device")
    go_back(outputs)


# Programs


@contextmanager
def without_notes_of_the_compiler() -> Iterator[None]:
    """Compiling, without what torch warns of in its own code; nothing that was compiled stays."""
    torch.compiler.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.compiler.reset()


@part(
    "compile",
    "Leave out what a compiler cannot follow: `item()`, `numpy()`, `print`, branches that depend on values, attributes "
    "that `output` changes.",
)
def compiles(subject: Subject) -> None:
    """Compiled as one graph for any batch, it gives the same outputs and gradients."""
    network, twin = subject.again(), subject.again()
    with without_notes_of_the_compiler():
        for training in (True, False):
            torch.compiler.reset()
            quick = torch.compile(network.train(training), fullgraph=True, backend="aot_eager")
            for batch in (11, 13):
                fed = subject.draw(batch)
                for x in fed:
                    torch._dynamo.mark_dynamic(x, 0)
                found, wanted = (call(one, fed) for one in (quick, twin.train(training)))
                what = f"Compiled, in {mode_of(training)}, for a batch of {batch}, another output comes out"
                are_equal(found, wanted, what, tolerance=1e-5)
                go_back(found)
                go_back(wanted)
            for (name, one), other in zip(network.named_parameters(), twin.parameters(), strict=True):
                if other.grad is not None:
                    ensure(one.grad is not None, f"Compiled, in {mode_of(training)}, no gradient reaches `{name}`")
                    are_equal([one.grad], [other.grad], f"Compiled, the gradient by `{name}` differs", tolerance=1e-4)


@part("export", "As for `compile`; and let no size but the batch depend on the batch.")
def exports(subject: Subject) -> None:
    """Exported by ``torch.export`` with the batch left open, it gives the same outputs."""
    network = subject.again().eval()
    with without_notes_of_the_compiler():
        program = torch.export.export(network, subject.draw(11), dynamic_shapes=network.dynamic_shapes())
        for batch in (2, 13):
            fed = subject.draw(batch)
            found = as_tuple(program.module()(*fed))
            are_equal(found, subject.run(network, fed), f"Exported, a batch of {batch} gives another output", 1e-5)
