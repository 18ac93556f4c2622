"""Parts about shapes, modes and inputs: what a call may rely on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch

from torchneupy.core.shape import TensorShape
from torchneupy.testing.parts.table import Parts, are_equal, described, ensure, go_back, have_equal_values, mode_of
from torchneupy.testing.subject import Subject, call, copied_state, declared_shapes

__all__ = ["PARTS"]

PARTS = Parts()

#: How many combinations of hidden sizes are asked where there are more.
MOST_COMBINATIONS = 64

#: One for each input; None is a shape of unknown rank.
Shapes: TypeAlias = "Sequence[tuple[int | None, ...] | None]"


@PARTS.add("shape", "Let `get_output_shape` give the shape of what `output` returns, the batch first.")
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
    if not any(None in shape for shape in subject.shapes):
        for found in declared_shapes(subject.network, [None for _ in subject.shapes]):
            text = f"Declared is {found} where all but the batch is known, which leaves open more than the batch"
            ensure(found.ndims is not None and None not in found[1:], text)


@PARTS.add(
    "unknown_sizes",
    "Sizes in the argument of `get_output_shape` may be None: what depends on one of them is None as well. Let "
    "`create_variables` give a size that it needs to `self.variable`, which asks again once the size is known.",
)
def declares_no_more_than_is_true(subject: Subject) -> None:
    """With some sizes unknown, what is declared agrees with what is declared once all are known."""
    known = [tuple(x.shape) for x in subject.inputs]
    wanted = declared_shapes(subject.checked, known)
    for shapes in with_hidden_sizes(known, subject.seed):
        agree_with(subject.checked, shapes, wanted)
    if subject.make_layer is not None:
        samples = [shape[1:] for shape in known]
        for hidden in {tuple(shapes): None for shapes in with_hidden_sizes(samples, subject.seed)}:
            if None not in hidden:  # of a shape of unknown rank there is no Input
                can_be_connected_early(subject, hidden, known, wanted)


def with_hidden_sizes(known: Sequence[tuple[int, ...]], seed: int) -> Iterator[Shapes]:
    """The shapes with any of the sizes hidden, or all of a shape; some of the combinations where there are many."""
    hidden: list[list[Any]] = [[*itertools.product(*((size, None) for size in each)), None] for each in known]
    yield [(None,) * len(each) for each in known]
    yield [None for _ in known]
    combinations = itertools.product(*hidden)
    yield from itertools.islice(combinations, MOST_COMBINATIONS)
    if next(combinations, None) is not None:
        generator = random.Random(seed)
        yield from ([generator.choice(each) for each in hidden] for _ in range(MOST_COMBINATIONS))
        # One input at a time, so that each size of each is hidden at least once.
        for place, each in enumerate(hidden):
            yield from ([*known[:place], one, *known[place + 1 :]] for one in each[:MOST_COMBINATIONS])


def agree_with(checked: Any, shapes: Shapes, wanted: Sequence[TensorShape]) -> None:
    """What is declared for shapes is not at odds with what is wanted."""
    given = ", ".join(str(TensorShape(shape)) for shape in shapes)
    try:
        declared = declared_shapes(checked, shapes)
    except Exception as error:
        raise AssertionError(f"get_output_shape fails for {given}: {type(error).__name__}: {error}") from error
    for found, full in zip(declared, wanted, strict=True):
        ensure(found.is_compatible_with(full), f"Declared is {found} for {given}, but {full} once all is known")


def can_be_connected_early(subject: Subject, samples: Any, known: Shapes, wanted: Sequence[TensorShape]) -> None:
    """A layer behind inputs of partly unknown sizes declares what is true, and computes the same once it can."""
    given = ", ".join(str(TensorShape((None, *sample))) for sample in samples)
    try:
        network = subject.behind(samples)
    except Exception as error:
        raise AssertionError(f"It cannot be connected to {given}: {type(error).__name__}: {error}") from error
    agree_with(network, [None for _ in samples], wanted)
    found = declared_shapes(network, known)
    ensure(list(found) == list(wanted), f"Connected to {given}, it declares {found} for known sizes, not {wanted}")
    if network.is_built:
        network.load_state_dict(subject.network.state_dict())
        what = f"Connected to {given}, and with the same values, it computes something else"
        are_equal(subject.run(network), subject.run(), what, tolerance=1e-6)


@PARTS.add(
    "modes",
    "Take the mode from the argument, as in `output(self, x, training=False)`, not from `self.training`: `forward` "
    "passes it on.",
)
def goes_by_the_flag(subject: Subject) -> None:
    """Calling in a mode gives and changes what ``output`` does with that flag, whatever the mode is then."""
    for training in (True, False):
        network = subject.again()
        called = subject.run(network, training=training)
        changed = copied_state(network)
        for mode in (True, False):
            network = subject.again().train(mode)
            found = call(network.output, [x.clone() for x in subject.inputs], training=training)
            what = f"Called in {mode_of(training)}, and `output(training={training})` in {mode_of(mode)}, differ"
            are_equal(found, called, what)
            have_equal_values(network.state_dict(), changed, f"{what}, in what they change")
            ensure(all(module.training is mode for module in network.modules()), "`output` changes the mode")
        if subject.make_layer is not None:
            network = subject.again()
            found = subject.run(network.train(training).output_layers[0], training=training)
            are_equal(found, called, f"Called alone and in a network, in {mode_of(training)}, it differs")
            have_equal_values(network.state_dict(), changed, "Called alone and in a network, what it changes differs")
    for mode in (True, False):
        found = call(subject.network.train(mode).output, [x.clone() for x in subject.inputs])
        are_equal(found, called, "`output` without a flag is not what comes out in evaluation mode")


@PARTS.add("evaluation", "Draw random numbers, and change buffers, only where `training` is true.")
def is_determined_in_evaluation(subject: Subject) -> None:
    """In evaluation mode nothing is random, and nothing changes."""
    before, generator = copied_state(subject.network), torch.get_rng_state()
    first = subject.run(seed=1)
    are_equal(subject.run(seed=2), first, "In evaluation mode two calls give different outputs")
    with torch.no_grad():
        subject.network(*subject.inputs)
    ensure(torch.equal(torch.get_rng_state(), generator), "In evaluation mode random numbers are drawn")
    have_equal_values(subject.network.state_dict(), before, "In evaluation mode a value changes")


@PARTS.add(
    "samples",
    "In evaluation mode combine nothing over the first axis, as `x.mean(dim=0)` and `x / x.norm()` do.",
)
def keeps_samples_apart(subject: Subject) -> None:
    """In evaluation mode the output for a sample does not depend on the others."""
    together = subject.run()
    n_samples = len(subject.inputs[0])
    found = [len(output) for output in together]
    ensure(set(found) == {n_samples}, f"For {n_samples} samples there are {found} in the outputs")
    for index in range(n_samples):
        alone = subject.run(inputs=[x[index : index + 1] for x in subject.inputs])
        wanted = [output[index : index + 1] for output in together]
        what = "In evaluation mode something else comes out for a sample alone than with others"
        are_equal(alone, wanted, what, tolerance=1e-5)


@PARTS.add(
    "inputs",
    "Write into no input and no parameter: leave out operations in place (`x += 1`, `x.relu_()`), or copy first. An "
    "input may lie in memory in any way: take `reshape` in place of `view`, and no strides.",
)
def leaves_inputs_alone(subject: Subject) -> None:
    """Inputs and parameters stay as they are, and inputs may lie in memory in any order, and with gaps."""
    before = [x.clone() for x in subject.inputs]
    parameters = {name: value.detach().clone() for name, value in subject.network.named_parameters()}
    for training, gradients, wanted in itertools.product((False, True), repeat=3):
        inputs = [x.clone().requires_grad_(wanted and x.is_floating_point()) for x in before]
        with torch.set_grad_enabled(gradients):
            outputs = call(subject.network.train(training), inputs)
        go_back(outputs)
        are_equal(inputs, before, f"In {mode_of(training)} an input is changed")
    have_equal_values(dict(subject.network.named_parameters()), parameters, "A call changes a parameter")
    expected = subject.run()
    turned = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in before]
    gapped = [torch.stack([x, x], dim=-1)[..., 0] for x in before]
    for described_as, inputs in (("in another order", turned), ("with gaps", gapped)):
        what = f"Of inputs that lie in memory {described_as}, something else is computed"
        are_equal(call(subject.network, inputs), expected, what, tolerance=1e-5)
