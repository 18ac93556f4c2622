"""What is shown of the results, and that README.rst shows the recorded run."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.goals import REASONS, SUMMARY
from benchmarks.measure import Result
from benchmarks.rivals.apart import KERAS, NEUPY

RESULTS = [
    Result("dense, forward", "nn.Sequential", 52.1, 80.4, "us", 0.64, 0.648, 0.65, 0.65),
    Result("dense, forward", "Keras on torch", absent="not installed"),
    Result("convolutions, forward", "torch.nn, channels_last", 2_345.0, 1_999.0, "us", 1.1, 1.173, 1.2, 1.02),
    Result("loading", "h5py", 120.0, 1500.0, "MB", 0.07, 0.08, 0.09),
]


def test_table_in_markdown():
    assert report.markdown(RESULTS).splitlines()[2:] == [
        "| dense, forward | nn.Sequential | 0.65 | 0.64 to 0.65 | 52.1 us | 80.4 us | 0.65 met |",
        "|  | Keras on torch | not measured | not installed |  |  |  |",
        "| convolutions, forward | torch.nn, channels_last | 1.17 | 1.10 to 1.20 | 2.35 ms | 2.00 ms | 1.02 MISSED |",
        "| loading | h5py | 0.08 | 0.07 to 0.09 | 120 MB | 1.50 GB |  |",
    ]


def test_results_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(report.as_json("a machine", RESULTS), encoding="utf-8")
    assert "NaN" not in path.read_text(encoding="utf-8")
    where, found = report.read(path)
    assert where == "a machine"
    assert report.pieces(where, found) == report.pieces("a machine", RESULTS)
    assert json.loads(path.read_text(encoding="utf-8"))["results"][0]["median"] == 0.648


def test_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra benchmarks")
    path = tmp_path / "ratios.png"
    report.draw(RESULTS, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_picture_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="torchneupy\\[benchmarks\\]"):
        report.draw(RESULTS, tmp_path / "ratios.png")


def test_readme_needs_a_place_for_each_piece():
    with pytest.raises(ValueError, match="no place for the piece `table`"):
        report.with_pieces("text", {"table": "rows"})


def test_pieces_of_readme():
    found = report.pieces("a machine", RESULTS)
    assert found["missed"] == (
        "- Nobody has looked into it yet. (convolutions, forward, against torch.nn, channels_last: 1.17, goal 1.02)"
    )
    assert found["table"].startswith("One run. a machine\n\n.. csv-table::\n")
    assert report.pieces("", [Result("a", 'b "c"', absent="d")])["table"].endswith(
        '"a", "b ""c""", "not measured", "d", , ,'
    )


def test_readme_shows_the_recorded_run():
    text = report.README.read_text(encoding="utf-8")
    assert report.with_pieces(text, report.pieces(*report.read(report.RESULTS))) == text
    assert report.PICTURE.is_file()


def test_reasons_are_of_the_recorded_run():
    """And every goal that is missed in it has one."""
    results = report.read(report.RESULTS)[1]
    recorded = {(result.question, result.rival) for result in results}
    assert set(REASONS) <= recorded
    assert set(SUMMARY) <= recorded
    assert {(result.question, result.rival) for result in results if not result.is_met} <= set(REASONS)


@pytest.mark.parametrize(
    "value, unit, text",
    [(999.6, "us", "1.00 ms"), (99.96, "us", "100 us"), (1023.9, "KiB", "1.00 MiB"), (9.996, "ms", "10.0 ms")],
)
def test_figures_have_three_digits(value, unit, text):
    assert report.figure(value, unit) == text


def test_recorded_run_is_whole():
    """Each file of questions is in it, and no rival was absent that could have been there."""
    where, results = report.read(report.RESULTS)
    versions = ("torch 2.13.0", "Keras 3.15.1", "NeuPy 0.8.2", "TensorFlow 2.15.1", "1 thread(s)")
    assert all(version in where for version in versions)
    assert list(dict.fromkeys(result.file for result in results)) == list(command.FILES)
    assert {(result.absent.partition(":")[0], result.rival) for result in results if result.absent} == {
        ("RecursionError", KERAS),
        ("RecursionError", NEUPY),
        ("torch's compiler refuses it", "nn.LSTM, as one graph"),
        ("torch's compiler refuses it", "nn.GRU, as one graph"),
    }
