"""Whatever happens while a file is saved, the old one is there or the new one, and whole."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from torchneupy import storage
from torchneupy.layers import Input, Relu, Softmax

SAVE: dict[str, Callable[[Any, Path], None]] = {
    "hdf5": storage.save_hdf5,
    "json": storage.save_json,
    "pickle": storage.save_pickle,
    "safetensors": storage.save_safetensors,
}
every_format = pytest.mark.parametrize("save", SAVE.values(), ids=SAVE)
KILLED = 9


def network(value: float) -> Any:
    made = Input(4, name="x") >> Relu(3, name="a") >> Softmax(2, name="b")
    with torch.no_grad():
        for variable in made.variables.values():
            variable.fill_(value)
    return made


class Watched:
    """A file that tells before each write and flush."""

    def __init__(self, file: Any, event: Callable[[], None]) -> None:
        self.file, self.event = file, event

    def __enter__(self) -> Any:
        self.file.__enter__()
        return self

    def __exit__(self, *args: object) -> Any:
        return self.file.__exit__(*args)

    def write(self, content: Any) -> Any:
        self.event()
        return self.file.write(content)

    def flush(self) -> None:
        self.event()
        self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def watch(monkeypatch: pytest.MonkeyPatch, event: Callable[[], None]) -> None:
    """Call something before every write, flush, fsync and rename."""
    fdopen = os.fdopen

    def first(function: Any) -> Any:
        def both(*args: Any) -> Any:
            event()
            return function(*args)

        return both

    monkeypatch.setattr(os, "fdopen", lambda *args, **kwargs: Watched(fdopen(*args, **kwargs), event))
    monkeypatch.setattr(os, "fsync", first(os.fsync))
    monkeypatch.setattr(os, "replace", first(os.replace))


def count_events(save: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    events: list[None] = []
    with monkeypatch.context() as patched:
        watch(patched, lambda: events.append(None))
        save(network(2), path)
    path.unlink()
    return len(events)


def at_event(number: int, happen: Callable[[], None]) -> Callable[[], None]:
    numbers: Iterator[int] = iter(range(10**6))

    def event() -> None:
        if next(numbers) == number:
            happen()

    return event


@every_format
def test_killed_at_any_moment(save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    count = count_events(save, path, monkeypatch)
    assert count >= 4
    save(network(2), tmp_path / "new")
    save(network(1), path)
    old = path.read_bytes()
    seen = set()
    for number in range(count):
        child = os.fork()
        if child == 0:  # pragma: no cover  # it never gets to report
            try:
                watch(monkeypatch, at_event(number, lambda: os._exit(KILLED)))
                save(network(2), path)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
        content = path.read_bytes()
        seen.add(content == old)
        if content != old:
            check = network(0)
            LOAD[save](check, path)
            assert all((value == 2).all() for value in check.variables.values())
            path.write_bytes(old)
    assert True in seen


LOAD: dict[Any, Any] = {
    storage.save_hdf5: storage.load_hdf5,
    storage.save_json: storage.load_json,
    storage.save_pickle: storage.load_pickle,
    storage.save_safetensors: storage.load_safetensors,
}


@every_format
@pytest.mark.parametrize("there_before", [True, False])
def test_a_full_disk(save: Any, there_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    count = count_events(save, path, monkeypatch)
    if there_before:
        save(network(1), path)
    old = path.read_bytes() if there_before else None
    # What comes after the rename is for the folder only, and no failure.
    for number in range(count - 1):
        with monkeypatch.context() as patched:
            watch(patched, at_event(number, fail))
            with pytest.raises(OSError, match="No space left on device"):
                save(network(2), path)
        assert (path.read_bytes() if path.exists() else None) == old
        assert [one.name for one in tmp_path.iterdir()] == (["file"] if there_before else [])


@every_format
def test_links_and_permissions_stay(save: Any, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    save(network(1), target)
    target.chmod(0o640)
    link.symlink_to(target)
    save(network(2), link)
    assert link.is_symlink() and target.stat().st_mode & 0o777 == 0o640
    loaded = network(0)
    LOAD[save](loaded, target)
    assert all((value == 2).all() for value in loaded.variables.values())


@every_format
def test_no_such_folder(save: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        save(network(1), tmp_path / "missing" / "file")
