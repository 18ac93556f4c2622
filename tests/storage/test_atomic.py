"""A save that is killed, or meets a full disk, leaves the whole old file or the whole new one."""

import errno
import io
import os
import resource
import signal
import stat
from pathlib import Path

import pytest
import torch

from tests.storage.recorded import LOADERS, SAVERS
from torchneupy import storage
from torchneupy.layers import Input, Relu
from torchneupy.storage import atomic

ENDINGS = list(SAVERS)


def make(value):
    network = Input(2) >> Relu(2, name="hidden")
    with torch.no_grad():
        for variable in network.variables.values():
            variable.fill_(value)
    return network


def value_in(path):
    """The number with which the network that a file holds is filled; every one of its values is looked at."""
    network = make(0)
    LOADERS[path.suffix](network, path, load_by="names")
    (found,) = set(torch.cat([variable.flatten() for variable in network.variables.values()]).tolist())
    return found


class Steps:
    """Counts what is done to files, and does something else at one of the steps."""

    def __init__(self, monkeypatch, disturb=lambda name, step: None):
        self.names = []
        self.disturb = disturb
        steps, fsync, replace = self, os.fsync, os.replace

        class Raw(io.FileIO):
            halves = True

            def write(self, data):
                # Of every other request only a half is done, as the system may do it; the buffer asks again.
                steps.take("write to the disk")
                self.halves = not self.halves and len(data) > 1
                return super().write(bytes(data)[: len(data) // 2] if self.halves else data)

        class Buffered(io.BufferedRandom):
            def write(self, data):
                steps.take("write")
                return super().write(data)

            def flush(self):
                steps.take("flush")
                super().flush()

        def counted(name, function):
            def call(*args):
                steps.take(name)
                return function(*args)

            return call

        monkeypatch.setattr(atomic, "open_new", lambda path: Buffered(Raw(path, "x+")))
        monkeypatch.setattr(os, "fsync", counted("fsync", fsync))
        monkeypatch.setattr(os, "replace", counted("rename", replace))

    def take(self, name):
        self.names.append(name)
        self.disturb(name, len(self.names))


def in_a_child(work):
    """Run something in a copy of this process, which then ends at once; give back how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("ending, existed", [*[(ending, True) for ending in ENDINGS], (".pickle", False)])
def test_killed_at_every_step(ending, existed, tmp_path, monkeypatch):
    path, new = tmp_path / f"network{ending}", make(2)
    if existed:
        SAVERS[ending](make(1), path)
    old = path.read_bytes() if existed else None
    with monkeypatch.context() as patch:
        counted = Steps(patch)
        SAVERS[ending](new, tmp_path / f"other{ending}")
    assert {"write", "write to the disk", "flush", "fsync", "rename"} <= set(counted.names)

    def kill_at(wanted):
        def work():
            with monkeypatch.context() as patch:
                Steps(patch, lambda _, step: os.kill(os.getpid(), signal.SIGKILL) if step == wanted else None)
                SAVERS[ending](new, path)

        return work

    found = []
    for wanted in range(1, len(counted.names) + 1):
        assert os.WTERMSIG(in_a_child(kill_at(wanted))) == signal.SIGKILL
        is_old = not path.exists() if old is None else path.read_bytes() == old
        assert is_old or value_in(path) == 2, counted.names[wanted - 1]
        found.append("old" if is_old else "new")
    # The new file is there from the renaming on, and what remains to be done then is to sync the folder.
    assert found == ["old"] * (len(found) - 1) + ["new"]
    SAVERS[ending](new, path)
    assert value_in(path) == 2


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_done_in_which_order(ending, tmp_path, monkeypatch):
    steps = Steps(monkeypatch)
    SAVERS[ending](make(1), tmp_path / f"network{ending}")
    last = max(index for index, name in enumerate(steps.names) if name.startswith("write"))
    # The bytes are on the disk before the name leads to them, and then the name is too.
    assert [name for name in steps.names[last + 1 :] if name != "flush"] == ["fsync", "rename", "fsync"]


def assert_nothing_lost(folder, path, old):
    assert [entry.name for entry in folder.iterdir()] == [path.name]
    assert path.read_bytes() == old


@pytest.mark.parametrize("ending", ENDINGS)
def test_full_disk_at_every_write(ending, tmp_path, monkeypatch):
    path = tmp_path / f"network{ending}"
    SAVERS[ending](make(1), path)
    old, new = path.read_bytes(), make(2)
    with monkeypatch.context() as patch:
        counted = Steps(patch)
        SAVERS[ending](new, path)
        path.write_bytes(old)

    writes = [step for step, name in enumerate(counted.names, start=1) if name == "write to the disk"]
    for full in writes:

        def disturb(name, step, full=full):
            if step >= full and name == "write to the disk":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            Steps(patch, disturb)
            with pytest.raises(OSError, match="No space left on device"):
                SAVERS[ending](new, path)
        assert_nothing_lost(tmp_path, path, old)


@pytest.mark.parametrize("name", ["write", "flush", "fsync", "rename"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_any_step_fails(ending, name, tmp_path, monkeypatch):
    path = tmp_path / f"network{ending}"
    SAVERS[ending](make(1), path)
    old = path.read_bytes()

    def disturb(taken, step):
        if taken == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        Steps(patch, disturb)
        with pytest.raises(OSError, match="Input/output error"):
            SAVERS[ending](make(2), path)
    assert_nothing_lost(tmp_path, path, old)


@pytest.mark.parametrize("ending", ENDINGS)
def test_limit_of_the_system(ending, tmp_path):
    """The system itself refuses to write more than some bytes of a file."""
    path = tmp_path / f"network{ending}"
    SAVERS[ending](make(1), path)
    old = path.read_bytes()

    def limited(size):
        def work():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            try:
                SAVERS[ending](make(2), path)
            except OSError as error:
                os._exit(10 if error.errno == errno.EFBIG else 11)

        return work

    for size in [0, 1, len(old) // 2, len(old) - 64]:
        assert os.WEXITSTATUS(in_a_child(limited(size))) == 10
        assert_nothing_lost(tmp_path, path, old)


def test_interrupted_by_the_user(tmp_path, monkeypatch):
    path = tmp_path / "network.json"
    storage.save_json(make(1), path)
    old = path.read_bytes()

    def interrupt(name, step):
        if step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        Steps(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            storage.save_json(make(2), path)
    assert_nothing_lost(tmp_path, path, old)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_network_that_cannot_be_saved_touches_no_file(ending, tmp_path):
    path = tmp_path / f"network{ending}"
    path.write_bytes(b"old")
    with torch.device("meta"):
        network = Input(3) >> Relu(2, name="hidden")
    with pytest.raises(ValueError, match=r"Variable `weight` of layer `hidden` is on the meta device"):
        SAVERS[ending](network, path)
    assert_nothing_lost(tmp_path, path, b"old")


# What the new file takes over from the old one


def test_mode_of_the_old_file_stays(tmp_path):
    path = tmp_path / "network.json"
    path.write_text("old")
    path.chmod(0o640)
    storage.save_json(make(1), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_mode_of_a_new_file_is_the_usual_one(tmp_path):
    (tmp_path / "usual").write_text("")
    storage.save_json(make(1), tmp_path / "network.json")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_link_stays_and_leads_to_the_new_file(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(folder / "network.json")
    storage.save_json(make(3), link)
    assert link.is_symlink()
    assert value_in(folder / "network.json") == 3
    assert [path.name for path in folder.iterdir()] == ["network.json"]


def test_only_regular_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", tmp_path):
        with pytest.raises(ValueError, match=rf"{path}' is there already and is not a regular file"):
            storage.save_json(make(1), path)
    assert stat.S_ISFIFO((tmp_path / "pipe.json").stat().st_mode)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder.*/missing/network\.json'$"):
        storage.save_json(make(1), tmp_path / "missing" / "network.json")


def test_folder_that_may_not_be_written(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(atomic, "open_new", refuse)  # whoever runs the tests as root may write everywhere
    with pytest.raises(PermissionError, match=r"Permission denied: '.*/network\.json'$"):
        storage.save_json(make(1), tmp_path / "network.json")


def test_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    storage.save_json(make(4), path)
    assert value_in(path) == 4


def test_path_without_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage.save_json(make(5), "network.json")
    assert value_in(Path("network.json")) == 5
