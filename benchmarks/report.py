"""What is shown of the results: a table in Markdown, JSON, a picture, and the table in README.rst."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals import REASONS, SUMMARY
from benchmarks.measure import Result

__all__ = ["README", "RESULTS", "as_json", "draw", "markdown", "pieces", "read", "record", "with_pieces"]

FOLDER = Path(__file__).resolve().parent
README = FOLDER.parent / "README.rst"
#: What a recorded run leaves, and README.rst shows.
RESULTS = FOLDER / "results.json"
PICTURE = FOLDER / "ratios.png"

TITLES = ("work", "rival", "ratio: median", "quartiles", "torchneupy", "rival", "goal")


def figure(value: float, unit: str) -> str:
    """Three digits, and a time in the unit that suits it."""
    steps = {"us": (1e3, "ms"), "ms": (1e3, "s"), "KiB": (1024, "MiB"), "MB": (1e3, "GB")}
    while unit in steps and rounded(value) >= 1e3:
        factor, unit = steps[unit]
        value /= factor
    digits = max(0, 2 - math.floor(math.log10(rounded(value)))) if value > 0 else 0
    return f"{value:.{digits}f} {unit}"


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


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
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines)


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


def table(results: Sequence[Result]) -> str:
    """The results as a table for README.rst."""
    lines = (", ".join(quoted(cell) if cell else "" for cell in cells) for cells in (TITLES, *rows(results)))
    return "\n".join([".. csv-table::", "   :header-rows: 1", "", *(f"   {line}".rstrip() for line in lines)])


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def missed(results: Sequence[Result]) -> str:
    """A list of the reasons why goals are missed, each with the goals."""
    found: dict[str, list[str]] = {}
    for result in results:
        if not result.is_met:
            why = REASONS.get((result.question, result.rival), "Nobody has looked into it yet.")
            ratio = f"{result.median:.3f}" if f"{result.median:.2f}" == f"{result.goal:.2f}" else f"{result.median:.2f}"
            what = f"{result.question}, against {result.rival}"
            found.setdefault(why, []).append(f"{what}: {ratio}, goal {result.goal:g}")
    items = [f"{why} ({'; '.join(goals)})" for why, goals in found.items()]
    return "\n".join(textwrap.fill(i, 120, initial_indent="- ", subsequent_indent="  ") for i in items) or "None."


def pieces(where: str, results: Sequence[Result]) -> dict[str, str]:
    """What README.rst shows of a run, by the names of the places there."""
    return {
        "summary": table([result for result in results if (result.question, result.rival) in SUMMARY]),
        "missed": missed(results),
        "table": f"{textwrap.fill(f'One run. {where}', 120)}\n\n{table(results)}",
    }


def with_pieces(text: str, found: Mapping[str, str]) -> str:
    """The text of README.rst with other pieces, each between its two comments.

    Raises
    ------
    ValueError
        If the comments of one are not there.
    """
    for name, piece in found.items():
        begin, end = f".. benchmarks, {name}: from here\n", f".. benchmarks, {name}: up to here\n"
        before, has_begin, rest = text.partition(begin)
        _, has_end, after = rest.partition(end)
        if not has_begin or not has_end:
            raise ValueError(f"README.rst has no place for the piece `{name}`")
        text = f"{before}{begin}\n{piece}\n\n{end}{after}"
    return text


def record(where: str, results: Sequence[Result]) -> None:
    """Write all that README.rst shows."""
    text = with_pieces(README.read_text(encoding="utf-8"), pieces(where, results))
    draw(results, PICTURE)  # first, as it may fail: the other two never disagree
    RESULTS.write_text(as_json(where, results), encoding="utf-8")
    README.write_text(text, encoding="utf-8")


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
TICKS = (0.003, 0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 4)


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw the ratios, a row for each question and a mark for each rival, with lines between the quartiles.

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

    shown = [result for result in results if not result.absent]
    questions = list(dict.fromkeys(result.question for result in shown))
    figure, axes = plt.subplots(figsize=(11, 1.5 + 0.2 * len(questions)), layout="constrained")
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
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_yticks(range(len(questions)), questions, fontsize=8)
    axes.set_ylim(len(questions), -1)
    axes.grid(axis="both", alpha=0.3)
    axes.set_xlabel("torchneupy / rival, of times and of memory: left of 1 torchneupy takes less")
    figure.legend(loc="outside upper center", ncols=len(members), fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
