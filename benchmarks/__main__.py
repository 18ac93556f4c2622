"""``python -m benchmarks [--quick] [--only NAME] [--device cpu|cuda] [--threads N] [--json FILE] [--picture FILE]``.

Prints a table in Markdown: for each question and each rival the medians of both, and the quartiles of our ratios to the
rival, of which less than 1 is faster. Ends with exit code 1 if a goal is missed for which goals.py has no reason.
``--record`` puts the results where README.rst shows them.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import torchneupy
from benchmarks import report
from benchmarks.goals import REASONS
from benchmarks.measure import Options, Result, ask

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


EXIT_CODE = "The exit code is 1 if a goal is missed for which benchmarks/goals.py has no reason."


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def surroundings(options: Options) -> str:
    where = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    return (
        f"torchneupy {torchneupy.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{where}, {options.threads} thread(s)"
    )


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
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("this PyTorch finds no CUDA GPU")
    if arguments.threads < 1:
        parser.error(f"threads must be a positive number, got {arguments.threads}")
    for path in filter(None, (arguments.json, arguments.picture)):
        if not path.absolute().parent.is_dir():
            parser.error(f"there is no folder for {path}")
    if (arguments.picture or arguments.record) and importlib.util.find_spec("matplotlib") is None:
        parser.error("the picture needs matplotlib: python -m pip install 'torchneupy[benchmarks]'")
    if arguments.record and (arguments.only or arguments.quick):
        parser.error("--record wants a whole run, without --only and --quick")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the questions, print the table, and tell by the exit code whether all goals are met."""
    arguments = read(argv)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    options = Options(arguments.device, arguments.quick, arguments.threads)
    results: list[Result] = []
    for name in [arguments.only] if arguments.only else FILES:
        for question in importlib.import_module(f"benchmarks.{name}").questions(options):
            print(f"{question.name} ...", file=sys.stderr, flush=True)
            results += ask(question, options)

    where = surroundings(options)
    print(where, report.markdown(results), sep="\n\n")
    if arguments.json is not None:
        arguments.json.write_text(report.as_json(where, results), encoding="utf-8")
    if arguments.picture is not None:
        report.draw(results, arguments.picture)
    if arguments.record:
        report.record(where, results)
    return 0 if all(result.is_met or (result.question, result.rival) in REASONS for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
