"""``python -m benchmarks [--quick] [--only NAME] [--device cpu|cuda] [--threads N] [--json FILE] [--picture FILE]``.

Prints a table in Markdown: for each question and each rival the medians of both, and the quartiles of our ratios to the
rival, of which less than 1 is faster. The project's goals are for one thread of a CPU: a full run of that kind ends
with exit code 1 if one is missed for which goals.py has no reason, or by more than a third. ``--record`` puts the
results where README.rst shows them; ``--show`` puts those there again that were recorded, after a change of how they
are shown.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.goals import LIMIT, REASONS
from benchmarks.measure import Options, Result, ask
from benchmarks.surroundings import described, settings

__all__ = ["main"]

FILES = (
    "dense",
    "residual",
    "convolution",
    "resnet",
    "pooling",
    "batchnorm",
    "embedding",
    "recurrent",
    "predicting",
    "building",
    "importing",
    "memory",
    "loading",
)


EXIT_CODE = (
    "Goals are for full runs with one thread of a CPU. The exit code is 1 if one is missed for which "
    "benchmarks/goals.py has no reason, or by more than a third."
)


def results_of(name: str, options: Options) -> Iterator[Result]:
    """Those of one file of questions; what cannot be asked for want of a package is named."""
    try:
        for question in importlib.import_module(f"benchmarks.{name}").questions(options):
            print(f"{question.name} ...", file=sys.stderr, flush=True)
            for result in ask(question, options):
                yield result._replace(file=name, goal=result.goal if options.has_goals else None)
    except ImportError as error:
        if "torchneupy[" not in str(error):  # which names an extra to install
            raise
        yield Result(name, "all", absent=str(error).splitlines()[0], file=name)


def is_excused(result: Result) -> bool:
    """Whether there is a reason why a goal is missed, and by so much."""
    has_reason = (result.question, result.rival) in REASONS
    return has_reason and result.goal is not None and result.median <= LIMIT * result.goal


def read(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, which are checked before anything is measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"torchneupy against its rivals. {EXIT_CODE}"
    )
    parser.add_argument("--quick", action="store_true", help="few turns: to see that it runs, not how fast")
    parser.add_argument("--only", choices=FILES, help="one file of questions")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the ratios there (.png; needs matplotlib)")
    parser.add_argument("--record", action="store_true", help="write the files that README.rst shows, and its table")
    parser.add_argument("--show", action="store_true", help="measure nothing, and show the recorded results anew")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("this PyTorch finds no CUDA GPU")
    if arguments.threads < 1:
        parser.error(f"threads must be a positive number, got {arguments.threads}")
    for path in filter(None, (arguments.json, arguments.picture)):
        if not path.absolute().parent.is_dir():
            parser.error(f"there is no folder for {path}")
    if (arguments.picture or arguments.record or arguments.show) and importlib.util.find_spec("matplotlib") is None:
        parser.error("the picture needs matplotlib: python -m pip install 'torchneupy[benchmarks]'")
    if arguments.record and (arguments.only or arguments.quick or arguments.device != "cpu" or arguments.threads != 1):
        parser.error("--record wants a whole run with one thread of a CPU")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the questions, print the table, and tell by the exit code whether all goals are met."""
    arguments = read(argv)
    if arguments.show:
        report.record(*report.read(report.RESULTS))
        return 0
    options = Options(arguments.device, arguments.quick, arguments.threads)
    results: list[Result] = []
    with settings(options):
        where = described(options)
        for name in [arguments.only] if arguments.only else FILES:
            results += results_of(name, options)
            if arguments.json is not None:  # after each file, so that a run that is cut off is not lost
                arguments.json.write_text(report.as_json(where, results), encoding="utf-8")

    print(where, report.markdown(results), sep="\n\n")
    if arguments.picture is not None:
        report.draw(results, arguments.picture)
    if arguments.record:
        report.record(where, results)
    return 0 if all(result.is_met or is_excused(result) for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
