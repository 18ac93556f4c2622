"""What is shown of the results: a table in Markdown, JSON, a picture, and the table in README.rst."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Result

__all__ = ["README", "RESULTS", "as_json", "draw", "markdown", "read", "record", "rest", "with_table"]

FOLDER = Path(__file__).resolve().parent
README = FOLDER.parent / "README.rst"
#: What a recorded run leaves, and README.rst shows.
RESULTS = FOLDER / "results.json"
PICTURE = FOLDER / "ratios.png"

TITLES = ("work", "rival", "ratio: median", "quartiles", "torchneupy", "rival", "goal")


def figure(value: float, unit: str) -> str:
    """Three digits, and a time in the unit that suits it."""
    steps = {"us": (1e3, "ms"), "ms": (1e3, "s"), "KiB": (1024, "MiB"), "MB": (1e3, "GB")}
    while unit in steps and value >= steps[unit][0]:
        factor, unit = steps[unit]
        value /= factor
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{digits}f} {unit}"


def rows(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    """The cells of each row."""
    question = None
    for result in results:
        name = result.question if result.question != question else ""
        question = result.question
        if result.absent:
            yield (name, result.rival, "not measured", result.absent, "", "", "")
            continue
        goal = "" if result.goal is None else f"{result.goal:g} {'met' if result.is_met else 'MISSED'}"
        spread = f"{result.lower:.2f} to {result.upper:.2f}"
        figures = figure(result.own, result.unit), figure(result.other, result.unit)
        yield (name, result.rival, f"{result.median:.2f}", spread, *figures, goal)


def markdown(results: Sequence[Result]) -> str:
    """The results as a table."""
    lines = [TITLES, ("---",) * len(TITLES), *rows(results)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_json(where: str, results: Sequence[Result]) -> str:
    """The results, and the machine and the versions."""
    defaults = Result("", "")
    kept = [
        {key: value for key, value in result._asdict().items() if value is not getattr(defaults, key)}
        for result in results
    ]
    return json.dumps({"surroundings": where, "results": kept}, indent=1) + "\n"


def read(path: Path) -> tuple[str, list[Result]]:
    """The surroundings and the results that were written to a file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["surroundings"], [Result(**result) for result in content["results"]]


def rest(where: str, results: Sequence[Result]) -> str:
    """The results as a table for README.rst."""
    lines = [
        f"One run with {where}:",
        "",
        ".. csv-table::",
        "   :header-rows: 1",
        "",
        *("   " + ", ".join(f'"{cell}"' if cell else "" for cell in cells) for cells in (TITLES, *rows(results))),
    ]
    return "\n".join(line.rstrip() for line in lines)


BETWEEN = re.compile(r"(?<=\.\. benchmarks: from here\n).*(?=\.\. benchmarks: up to here\n)", re.DOTALL)


def with_table(text: str, table: str) -> str:
    """The text of README.rst with another table between its two comments.

    Raises
    ------
    ValueError
        If the comments are not there.
    """
    found, count = BETWEEN.subn(lambda match: f"\n{table}\n\n", text)
    if count != 1:
        raise ValueError("README.rst has no place for the table")
    return found


def record(where: str, results: Sequence[Result]) -> None:
    """Write all that README.rst shows."""
    RESULTS.write_text(as_json(where, results), encoding="utf-8")
    draw(results, PICTURE)
    README.write_text(with_table(README.read_text(encoding="utf-8"), rest(where, results)), encoding="utf-8")


#: What the name of a rival contains to its colour and mark in the picture; the first that fits.
MARKS = {
    "Keras": ("tab:green", "s"),
    "NeuPy": ("tab:red", "D"),
    "compiled": ("tab:purple", "^"),
    "as one graph": ("tab:purple", "v"),
    "by hand": ("tab:orange", "P"),
    "channels_last": ("tab:cyan", "o"),
    "nn": ("tab:blue", "o"),
    "": ("tab:gray", "x"),
}
LABELS = {"nn": "torch.nn", "": "another"}


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw the ratios of times, a row for each question and a mark for each rival, with lines between the quartiles.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("The picture needs matplotlib: python -m pip install torchneupy[benchmarks]") from error
    mpl.use("agg")
    from matplotlib import pyplot as plt

    shown = [result for result in results if result.unit == "us" and not result.absent]
    questions = list(dict.fromkeys(result.question for result in shown))
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.17 * len(questions)), layout="constrained")
    members: dict[str, list[Result]] = {kind: [] for kind in MARKS}
    for result in shown:
        members[next(kind for kind in MARKS if kind in result.rival)].append(result)
    for kind, found in members.items():
        if not found:
            continue
        colour, mark = MARKS[kind]
        medians = [result.median for result in found]
        spread: Any = [[r.median - r.lower for r in found], [r.upper - r.median for r in found]]
        places = [questions.index(result.question) for result in found]
        options: Any = {"color": colour, "fmt": mark, "markersize": 4, "linewidth": 1, "label": LABELS.get(kind, kind)}
        axes.errorbar(medians, places, xerr=spread, **options)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(questions)), questions, fontsize=6)
    axes.set_ylim(len(questions), -1)
    axes.grid(axis="both", alpha=0.3)
    axes.set_xlabel("time of torchneupy / time of the rival: left of 1 torchneupy is faster")
    figure.legend(loc="outside upper center", ncols=len(members), fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
