"""Checks of whole layers and networks, part by part."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from torchneupy.core.shape import TensorShape
from torchneupy.layers import LayerGraph, ModuleLayer
from torchneupy.testing.inputs import fail_unless_network
from torchneupy.testing.parts import PARTS
from torchneupy.testing.parts.table import are_equal, mode_of
from torchneupy.testing.parts.table import described as shapes_of
from torchneupy.testing.randomness import seeded
from torchneupy.testing.subject import Prepare, Subject, connect, declared_shapes

__all__ = ["check_layer", "check_network"]


def fail_if_unknown(skip: Collection[str]) -> None:
    names: Any = skip
    if isinstance(names, str) or not isinstance(names, Collection) or any(name not in PARTS for name in names):
        raise ValueError(f"`skip` should hold names of parts, got {skip!r}. Parts: {', '.join(PARTS)}")


def fail_unless_seed(seed: Any) -> None:
    if type(seed) is not int:
        raise TypeError(f"Expected a whole number as a seed, got {seed!r}")


def fail_unless_prepares(prepare: Any, n_inputs: int) -> None:
    """Raise an error if what prepares inputs cannot be called, or is not for so many."""
    each = prepare if isinstance(prepare, (list, tuple)) else [prepare]
    if not all(one is None or callable(one) for one in each):
        raise TypeError(f"`prepare` should be a function, or a list of one or None for each input, got {prepare!r}")
    if each is prepare and len(each) != n_inputs:
        raise ValueError(f"`prepare` should have as many functions as there are inputs, {n_inputs}, got {len(each)}")


def fail_unless_it_runs(subject: Subject, described: str) -> None:
    """Raise AssertionError, before any part is asked, if a call fails: each part would tell of that, too."""
    for training in (False, True):
        where = f"{described}, called in {mode_of(training)} with {shapes_of(subject.inputs)}"
        try:
            outputs = subject.run(training=training)
        except Exception as error:
            hint = ""
            if not all(x.is_floating_point() for x in subject.inputs):
                hint = ". Whole numbers are fed to what looks like a table; `prepare=[...]` feeds other values"
            raise AssertionError(f"{where}, fails: {describe(error)}{hint}") from error
        kinds = [type(output).__name__ for output in outputs]
        if not all(isinstance(output, torch.Tensor) for output in outputs):
            raise AssertionError(f"{where}, gives {', '.join(kinds)}. A layer gives a tensor, or several in a tuple")
        n_declared = len(declared_shapes(subject.network, [tuple(x.shape) for x in subject.inputs]))
        if len(outputs) != n_declared:
            remedy = "Let `get_output_shape` give a list of a shape for each"
            if isinstance(subject.checked, ModuleLayer):
                remedy = "Put a module around it whose `forward` gives one of them, or write a layer"
            raise AssertionError(f"{where}, gives {len(outputs)} tensors, but declares {n_declared} shape(s). {remedy}")
    again, first = subject.again().state_dict(), subject.again().state_dict()
    for key, value in again.items():
        try:
            are_equal([value], [first[key]], "")
        except AssertionError as error:
            raise AssertionError(
                f"{described} has other values of `{key}` each time that it is made with the same seed of torch, numpy "
                f"and Python: let the factory give it some that stay the same"
            ) from error


def run_parts(subject: Subject, names: Collection[str], described: str) -> None:
    """Ask all parts, and tell of all that are broken.

    Raises
    ------
    AssertionError
        If one is broken.
    """
    broken: dict[str, Exception] = {}
    for name in names:
        try:
            with seeded(subject.seed):
                PARTS[name].check(subject.new())
        except Exception as error:  # noqa: BLE001  # what is checked may fail in any way
            broken[name] = error
    if broken:
        texts = [f"{name}: {describe(error)}\n    To mend it: {PARTS[name].remedy}" for name, error in broken.items()]
        raise AssertionError(
            f"{described} breaks {len(broken)} of {len(names)} parts of the contract.\n\n"
            + "\n\n".join(texts)
            + f"\n\nWhat is meant to be so is skipped by skip={list(broken)}."
        ) from next(iter(broken.values()))


def describe(error: Exception) -> str:
    """An error in a few lines."""
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n    ".join([kind + (lines[0] if lines else "no message"), *lines[1:8]])


def check_layer(
    layer_factory: Callable[[], nn.Module],
    input_shape: Any,
    *,
    skip: Collection[str] = (),
    seed: int = 0,
    prepare: Prepare = None,
) -> None:
    """Check that a layer keeps the contract that every layer of the library keeps.

    Parameters are moved by about a tenth of themselves, so that none are equal, and those that are 0 by about a tenth;
    sizes that may be any are between 5 and 10, or larger where the layer does not run with these. In a test of
    hypothesis's, turn its deadline off: a part may take seconds.

    All parts are asked, and those that are broken are told of together, each with what was found and how to mend it:

    - ``shape``: the declared shape is that of the output, for any batch, in both modes, and leaves only the batch open
    - ``unknown_sizes``: with some sizes unknown, the declared shape agrees with that for known ones, and a layer that
      was connected before they are known computes the same
    - ``modes``: calling in a mode gives, and changes, what ``output`` does with that flag
    - ``evaluation``: in evaluation mode nothing is random, and nothing changes
    - ``samples``: in evaluation mode the output for a sample does not depend on the others
    - ``inputs``: inputs and parameters stay as they are, and inputs may lie in memory in any order
    - ``gradients``: they are those of finite differences (``gradcheck``), and reach every parameter
    - ``state_dict``: a new layer that gets the state computes the same
    - ``deepcopy``: a copy is and computes the same, and shares nothing
    - ``pickle``: what comes back from pickle is and computes the same
    - ``dtypes``: after ``.to(dtype)`` everything is computed in that type (float64, bfloat16), and variables are made
      in torch's default type
    - ``moves``: all tensors go where ``.to(device)`` takes the layer, and it computes there
    - ``meta``: made on ``meta``, it gives the right shapes, makes no tensor elsewhere, and can get its values later
    - ``cuda``: on CUDA, where there is one, outputs are those of the CPU
    - ``compile``: ``torch.compile(fullgraph=True)`` gives the same outputs and gradients, for any batch
    - ``export``: ``torch.export`` with the batch left open gives the same outputs

    Parameters
    ----------
    layer_factory : callable
        Makes a new layer, the same at each call but for random initial values: a class, or a function without
        arguments. The layer may be any ``nn.Module``.
    input_shape : int, tuple, TensorShape, or list of them
        Shape of one sample, as for ``Input``; a list is for several inputs. Sizes that are None may be any.
    skip : collection of str
        Names of parts that are not asked. Defaults to ``()``.
    seed : int
        For initial values and inputs. Defaults to ``0``.
    prepare : callable, list of them, or None
        Makes what is fed of numbers with a normal distribution: ``torch.exp`` for a layer that takes positive ones,
        or, for a mask, ``lambda x: x > 0``, as whole numbers and yes or no keep their type, and are asked for no
        gradient. A list has one, or None, for each input. Without one of its own, an input gets whole numbers below the
        ``input_size`` where its layer says ``takes_indices``, or is a module that begins with an ``nn.Embedding``.
        Defaults to ``None``.

    Raises
    ------
    AssertionError
        If a part is broken, or the layer cannot be connected to such inputs.
    ValueError
        If there is no part of a name in ``skip``, ``input_shape`` is no shape, nor a list of them, or ``prepare`` is
        for another number of inputs, or gives another shape.
    TypeError
        If the factory gives no new module at each call, one with new variables, the seed is no whole number,
        ``prepare`` cannot be called, or ``input_shape`` has what is no size.

    Examples
    --------
    >>> import torch
    >>> from torchneupy.layers import BaseLayer
    >>> from torchneupy.testing import check_layer
    >>> class Halves(BaseLayer):
    ...     def get_output_shape(self, input_shape):
    ...         return input_shape
    ...     def output(self, x):
    ...         return x[:, ::2]
    >>> check_layer(Halves, input_shape=6, skip=["pickle"])
    Traceback (most recent call last):
        ...
    AssertionError: Halves(name='halves-1') breaks 1 of 15 parts of the contract.
    <BLANKLINE>
    shape: Declared is (1, 6), but (1, 3) comes out for inputs of the shape (1, 6), in evaluation mode
        To mend it: Let `get_output_shape` give the shape of what `output` returns, the batch first.
    <BLANKLINE>
    What is meant to be so is skipped by skip=['shape'].
    """
    fail_if_unknown(skip)
    shapes = input_shape if isinstance(input_shape, list) else [input_shape]
    if not shapes or (isinstance(input_shape, tuple) and any(isinstance(size, tuple) for size in input_shape)):
        raise ValueError(f"Expected the shape of one sample, or a list of several inputs' shapes, got {input_shape!r}")
    fail_unless_seed(seed)
    fail_unless_prepares(prepare, len(shapes))
    layer = fail_unless_new(layer_factory)
    described = repr(layer)
    try:
        connect(layer_factory(), shapes).create_variables()
    except Exception as error:
        listed = ", ".join(str(TensorShape(shape)) for shape in shapes)
        raise AssertionError(
            f"{described} cannot be connected to inputs of the shape {listed}: {describe(error)}"
        ) from error
    # A network becomes a part of the one that is checked, in which there is no layer to ask alone.
    make_layer = None if isinstance(layer, LayerGraph) else layer_factory
    subject = Subject(lambda: connect(layer_factory(), shapes), seed, make_layer, prepare)
    fail_unless_it_runs(subject, described)
    run_parts(subject, [name for name in PARTS if name not in skip], described)


def fail_unless_new(layer_factory: Callable[[], nn.Module]) -> nn.Module:
    """What a factory makes.

    Raises
    ------
    TypeError
        If it makes no module, or no new one.
    """
    if isinstance(layer_factory, nn.Module):
        raise TypeError(f"Expected a function that makes a layer, got a layer; write lambda: {layer_factory!r}")
    layer, other = layer_factory(), layer_factory()
    if not isinstance(layer, nn.Module):
        raise TypeError(f"Expected a function that makes a layer, got one that gives {layer!r}")
    if layer is other:
        raise TypeError(f"Expected a function that makes a new layer at each call, got one that gives one, {layer!r}")
    # Not the network's own method, which warns of variables that are not there yet.
    others = {id(parameter) for _, parameter in nn.Module.named_parameters(other)}
    for name, parameter in nn.Module.named_parameters(layer):
        if id(parameter) in others:
            raise TypeError(f"Expected a new layer at each call, but two that were made share `{name}`: {layer!r}")
    return layer


def check_network(network: LayerGraph, *, skip: Collection[str] = (), seed: int = 0, prepare: Prepare = None) -> None:
    """Check that a network keeps the contract of layers, as far as one can ask it of a copy of the network.

    Copies of it are checked, so that the network itself stays as it is. The parts are those of :func:`check_layer`,
    without ``meta``, for which it would have to be made anew.

    Parameters
    ----------
    network : LayerGraph
        One whose variables exist.
    skip : collection of str
        Names of parts that are not asked. Defaults to ``()``.
    seed : int
        For the inputs. Defaults to ``0``.
    prepare : callable, list of them, or None
        As for :func:`check_layer`. Defaults to ``None``.

    Raises
    ------
    AssertionError
        If a part is broken.
    ValueError
        If there is no part of a name in ``skip``, the shape of an input is not known, or ``prepare`` does not suit.
    WeightInitializationError
        If layers have no variables yet.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> from torchneupy.testing import check_network
    >>> check_network(Input(4) >> Tanh(5) >> Dropout(0.5) >> Softmax(3), skip=["compile", "export"])
    """
    fail_unless_network(network, "check_network()")
    fail_if_unknown(skip)
    fail_unless_seed(seed)
    if not network.is_built:
        copy.deepcopy(network).create_variables()  # says which are missing
    for layer, shape in zip(network.input_layers, network.input_shapes, strict=True):
        if shape.ndims is None:
            raise ValueError(f"Nothing is known of the shape for `{layer.name}`: put an Input before it. {network}")
    fail_unless_prepares(prepare, len(network.input_layers))
    pattern = copy.deepcopy(network).float().cpu()
    names = [name for name, part in PARTS.items() if name not in skip and not part.layers_only]
    subject = Subject(lambda: copy.deepcopy(pattern), seed, prepare=prepare)
    fail_unless_it_runs(subject, repr(network))
    run_parts(subject, names, repr(network))
