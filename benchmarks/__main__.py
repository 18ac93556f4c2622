"""``python -m benchmarks [--quick] [--only NAME] [--device cpu|cuda] [--threads N] [--json FILE]``.

Prints a table in Markdown: for each question the rivals, their best figures, and the quartiles of their ratios to the
first rival. Ends with exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

import torchneupy
from benchmarks.measure import Options, Result, ask

__all__ = ["main"]

FILES = (
    "dense",
    "residual",
    "convolution",
    "pooling",
    "batchnorm",
    "embedding",
    "recurrent",
    "building",
    "importing",
    "memory",
    "loading",
)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def surroundings(device: str, threads: int) -> str:
    where = torch.cuda.get_device_name() if device == "cuda" else processor()
    return (
        f"torchneupy {torchneupy.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{where}, {threads} thread(s)"
    )


def table(results: Iterable[Result]) -> str:
    """The results in Markdown."""
    lines = ["| work | rival | best | ratio: median | quartiles | goal |", "|---|---|---|---|---|---|"]
    question = None
    for result in results:
        name = result.question if result.question != question else ""
        question = result.question
        goal = "" if result.goal is None else f"{result.goal:g} {'met' if result.is_met else 'MISSED'}"
        lines.append(
            f"| {name} | {result.rival} | {result.best:,.1f} {result.unit} | {result.median:.3f} "
            f"| {result.lower:.3f} to {result.upper:.3f} | {goal} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the questions, print the table, and tell by the exit code whether all goals are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="torchneupy against its rivals.")
    parser.add_argument("--quick", action="store_true", help="few turns: to see that it runs, not how fast")
    parser.add_argument("--only", choices=FILES, help="one file of questions")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("this PyTorch finds no CUDA GPU")
    if arguments.threads < 1:
        parser.error(f"threads must be a positive number, got {arguments.threads}")

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    options = Options(arguments.device, arguments.quick)
    results: list[Result] = []
    for name in [arguments.only] if arguments.only else FILES:
        for question in importlib.import_module(f"benchmarks.{name}").questions(options):
            print(f"{question.name} ...", file=sys.stderr, flush=True)
            results += ask(question, options)

    where = surroundings(arguments.device, arguments.threads)
    print(where, table(results), sep="\n\n")
    if arguments.json is not None:
        content = {"surroundings": where, "results": [result._asdict() for result in results]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if all(result.is_met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
