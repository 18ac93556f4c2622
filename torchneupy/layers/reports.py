"""What networks say about themselves: a table, a drawing, a warning."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from torchneupy.core.warn import warn_user
from torchneupy.layers.adapters import ModuleLayer
from torchneupy.layers.base import own_class
from torchneupy.layers.structure import Structure, unbuilt_layers

__all__ = ["Summary", "draw", "show", "summary", "warn_of_missing_variables"]

FORMATS = ("pdf", "png", "svg")


class Summary(str):
    """A text that shows itself as it is, in an interactive session too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def warn_of_missing_variables(network: Structure) -> None:
    """Warn that layers have no variables yet, naming them."""
    names = [layer.name for layer in unbuilt_layers(network)]
    reasons = [
        f" The output shape of `{child.name}` is not known: {child.shape_unknown_because}."
        for child in network
        if isinstance(child, ModuleLayer) and child.shape_unknown_because
    ]
    warn_user(
        f"The layers {', '.join(names)} have no variables yet, because the shape of their input is not known; an "
        f"optimizer made now would not train them.{''.join(reasons) or ' Connect the network to an Input.'} "
        f"Network: {network}"
    )


def rows(network: Structure) -> list[tuple[str, str, str, str]]:
    shapes = network.output_shapes_per_layer
    found = []
    for key, child in zip(network._sources, network, strict=True):
        name = own_class(child.module if isinstance(child, ModuleLayer) else child).__name__
        tensors = [*child.parameters(), *child.buffers()]
        count = f"{sum(tensor.numel() for tensor in tensors):,}" if getattr(child, "is_built", True) else "?"
        found.append((network._name(key), name, str(shapes[child]), count))
    return found


def summary(network: Structure) -> Summary:
    """A table of the layers, their classes, output shapes and numbers of parameters.

    A layer whose variables do not exist yet has a question mark for its parameters. Variables that layers share are
    counted with each of them, and once in the total.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> (Input(10) >> Relu(5, name="hidden") >> Softmax(3, name="classes")).summary()
    Layer    Class    Output shape  Parameters
    -------  -------  ------------  ----------
    input-1  Input    (?, 10)                0
    hidden   Relu     (?, 5)                55
    classes  Softmax  (?, 3)                18
    -------  -------  ------------  ----------
    Total: 73 parameters, 73 of them trained
    """
    titles = ("Layer", "Class", "Output shape", "Parameters")
    lines = rows(network)
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        left = [cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False)]
        return "  ".join([*left, cells[-1].rjust(widths[-1])]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    tensors = {id(t): t for child in network for t in [*child.parameters(), *child.buffers()]}.values()
    total = sum(t.numel() for t in tensors)
    trained = sum(t.numel() for t in tensors if t.requires_grad)
    missing = "" if network.is_built else "; some layers have no variables yet"
    text = [
        line(titles),
        rule,
        *map(line, lines),
        rule,
        f"Total: {total:,} parameters, {trained:,} of them trained{missing}",
    ]
    return Summary("\n".join(text))


def draw(network: Structure) -> Any:
    """The network as a ``graphviz.Digraph``: a node for each layer, and its output shape at what leaves it.

    Raises
    ------
    ImportError
        If graphviz is not installed; the message names the extra that installs it.
    """
    try:
        import graphviz
    except ImportError as error:
        raise ImportError('Drawing a network needs graphviz: pip install "torchneupy[plots]"') from error
    digraph = graphviz.Digraph()
    nodes = {key: f"layer-{number}" for number, key in enumerate(network._forward, start=1)}
    n_outputs = 0
    for key, targets in network._forward.items():
        shape = f" {network._shapes[key]}"
        digraph.node(nodes[key], graphviz.escape(network._name(key)))
        for target in targets:
            digraph.edge(nodes[key], nodes[target], label=shape)
        if not targets:
            n_outputs += 1
            digraph.node(f"output-{n_outputs}", f"Output #{n_outputs}")
            digraph.edge(nodes[key], f"output-{n_outputs}", label=shape)
    return digraph


def show(network: Structure, filepath: str | os.PathLike[str] | None = None, view: bool = False) -> str:
    """Draw a network into a file.

    Parameters
    ----------
    filepath : path or None
        The ending, ``.pdf``, ``.png`` or ``.svg``, says what is written; without an ending it is a PDF. Defaults to
        ``None``, which is a new PDF in the folder for temporary files.
    view : bool
        Open the file when it is written. Defaults to ``False``.

    Returns
    -------
    str
        The path of the file.

    Raises
    ------
    ImportError
        If graphviz is not installed; the message names the extra that installs it.
    ValueError
        If the ending is another one.
    RuntimeError
        If Graphviz' own program ``dot`` is not on the machine, or fails.
    """
    if filepath is None:
        filepath = Path(tempfile.mkdtemp(prefix="torchneupy-")) / "network.pdf"
    path = Path(filepath)
    ending = path.suffix[1:].lower() or "pdf"
    if ending not in FORMATS:
        raise ValueError(f"A network can be drawn as {', '.join(FORMATS)}, got {path.name!r}")
    target = path if path.suffix else path.with_suffix(".pdf")
    digraph = draw(network)
    import graphviz

    try:
        picture = digraph.pipe(format=ending, quiet=True)
    except graphviz.ExecutableNotFound as error:
        raise RuntimeError(
            "Drawing a network needs the program `dot` of Graphviz (https://graphviz.org), which is not on the PATH"
        ) from error
    except graphviz.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"Graphviz' program `dot` cannot draw the network: {reason or error}") from error
    target.write_bytes(picture)
    if view:
        graphviz.view(target)
    return str(target)
