"""The command line, ``python -m torchneupy`` or ``torchneupy``: it reads the arguments and calls the library."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import SubprocessError
from typing import Never

from torchneupy import __version__

__all__ = ["main"]

USAGE_ERROR = 2
INTERRUPTED = 130  # what shells report of a command ended by Ctrl-C
#: What commands about networks and files may fail with, for reasons that lie outside of this program.
FAILURES = (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError, SubprocessError)
ENDINGS = ".hdf5, .h5, .json, .pickle, .pkl, .safetensors, .pt or .pth"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage in front of it."""

    def error(self, message: str) -> Never:
        self.exit(USAGE_ERROR, f"{self.prog}: {' '.join(message.split())}\n")


def _demo(arguments: argparse.Namespace) -> None:
    # Here and not above: torch is slow to import, and --version and --help can do without.
    import torch

    from torchneupy import demo

    # Batches this small gain nothing from more threads, and lose much where another program needs a core.
    torch.set_num_threads(1)
    options = {name: getattr(arguments, name) for name in ("device", "epochs", "seed", "save")}
    try:
        # What was not given is left to the library's own defaults.
        demo.run(**{name: value for name, value in options.items() if value is not None})
    except demo.DemoError as error:
        arguments.parser.error(str(error))


@contextmanager
def _failing_in_one_line(parser: argparse.ArgumentParser) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        if isinstance(error, OSError) and error.filename is not None:
            parser.error(f"{error.filename!r}: {error.strerror}")
        parser.error(str(error) or type(error).__name__)


def _print(text: str) -> None:
    """Print a text with characters that the terminal may not know, to somebody who may not be reading any more."""
    if sys.stdout is None:  # it was closed before the process began
        return
    encoding = sys.stdout.encoding
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        # What is left in the buffer goes nowhere, or Python would complain about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _summary(arguments: argparse.Namespace) -> None:
    from torchneupy import targets

    with _failing_in_one_line(arguments.parser):
        _print(targets.find_network(arguments.network).summary())


def _show(arguments: argparse.Namespace) -> None:
    from torchneupy import targets

    with _failing_in_one_line(arguments.parser):
        _print(targets.find_network(arguments.network).show(arguments.picture))


def _inspect(arguments: argparse.Namespace) -> None:
    from torchneupy import storage

    with _failing_in_one_line(arguments.parser):
        found = storage.inspect(arguments.file)
        _print(json.dumps(found.to_dict(), indent=2) if arguments.json else str(found))


def _convert(arguments: argparse.Namespace) -> None:
    from torchneupy import storage

    with _failing_in_one_line(arguments.parser):
        storage.convert(arguments.source, arguments.target, arguments.names, verbose=True)
        _print(f"written: {arguments.target}, {os.path.getsize(arguments.target):,} bytes")


def _add_network(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "network",
        metavar="ARCHITECTURE|FILE.py:NAME",
        help="resnet50, squeezenet, vgg16 or vgg19; or a Python file, which is run, and its variable that is a network",
    )


def _build_parser() -> _Parser:
    parser = _Parser(
        prog="torchneupy", description="NeuPy's notation for neural networks, on PyTorch.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        allow_abbrev=False,
        help="train a network on handwritten digits",
        description="Train a network on 1,797 images of handwritten digits, which come with scikit-learn.",
    )
    demo.add_argument("--device", metavar="cuda|cpu", help="where to compute (default: cpu)")
    demo.add_argument("--epochs", type=int, metavar="N", help="how many times each image is shown (default: 40)")
    demo.add_argument("--seed", type=int, metavar="N", help="decides all that is random (default: 0)")
    demo.add_argument("--save", metavar="FILE", help="store the trained parameters there, for torch.load")
    demo.set_defaults(call=_demo, parser=demo)

    summary = commands.add_parser(
        "summary",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="print a table of a network's layers",
        description="Print a table of a network's layers: their classes, output shapes and numbers of parameters.",
        epilog="examples:\n  torchneupy summary resnet50\n  torchneupy summary model.py:network",
    )
    _add_network(summary)
    summary.set_defaults(call=_summary, parser=summary)

    show = commands.add_parser(
        "show",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="draw a network into a file",
        description="Draw a network into a file, with Graphviz, and print the file's name.",
        epilog="examples:\n  torchneupy show squeezenet squeezenet.pdf\n  torchneupy show model.py:network network.svg",
    )
    _add_network(show)
    show.add_argument("picture", metavar="PICTURE", help="the file to write: .pdf, .png or .svg")
    show.set_defaults(call=_show, parser=show)

    inspect = commands.add_parser(
        "inspect",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="tell what a file of weights holds",
        description="Print who wrote a file of weights, and a table of its layers and their parameters.",
        epilog="examples:\n  torchneupy inspect vgg16.hdf5\n  torchneupy inspect --json network.pickle",
    )
    inspect.add_argument("file", metavar="FILE", help=f"its name ends with {ENDINGS}")
    inspect.add_argument("--json", action="store_true", help="print the same as JSON")
    inspect.set_defaults(call=_inspect, parser=inspect)

    convert = commands.add_parser(
        "convert",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="write a file of weights in another format",
        description=(
            "Write a file of weights in another format. The names' endings tell the formats: .hdf5 or .h5, .json,\n"
            ".pickle or .pkl, .safetensors, and .pt or .pth, the state dict of a PyTorch network, for torch.load.\n"
            "OUT is replaced if it is there, when the new file is complete."
        ),
        epilog=(
            "examples:\n  torchneupy convert vgg16.hdf5 vgg16.pt\n"
            "  torchneupy convert --names state_dict network.pickle network.safetensors"
        ),
    )
    convert.add_argument("source", metavar="IN", help="the file to read")
    convert.add_argument("target", metavar="OUT", help="the file to write")
    convert.add_argument(
        "--names",
        choices=("neupy", "state_dict"),
        default="neupy",
        help="how a .safetensors file that is written calls its tensors (default: neupy)",
    )
    convert.set_defaults(call=_convert, parser=convert)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those that the process was started with.

    Returns
    -------
    int
        The exit code: 0, or 2 where the arguments are wrong or missing; one line on the standard
        error stream then says why.
    """
    parser = _build_parser()
    try:
        arguments, unknown = parser.parse_known_args(argv)
        if unknown:
            getattr(arguments, "parser", parser).error(f"unknown arguments: {' '.join(map(repr, unknown))}")
        if not hasattr(arguments, "call"):
            parser.print_help()
            return USAGE_ERROR
        arguments.call(arguments)
    except SystemExit as stop:  # how argparse ends --help, --version and errors
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        print("torchneupy: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
