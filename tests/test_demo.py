"""The demo's parts, and that a full run learns to read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from torchneupy import demo


def test_data():
    digits = demo.load_data(seed=1)
    assert digits.train_images.shape == (1438, 64)
    assert digits.test_images.shape == (359, 64)
    assert digits.train_labels.shape == (1438,)
    assert digits.test_labels.shape == (359,)
    for images in (digits.train_images, digits.test_images):
        assert images.dtype == torch.float32
        assert images.min() == 0
        assert images.max() == 1
    for labels in (digits.train_labels, digits.test_labels):
        assert labels.dtype == torch.int64
        assert set(labels.tolist()) == set(range(10))


def test_seed_decides_which_images_are_set_aside():
    first, same, other = demo.load_data(0), demo.load_data(0), demo.load_data(1)
    assert torch.equal(first.test_images, same.test_images)
    assert not torch.equal(first.test_images, other.test_images)


def test_no_image_is_lost_or_in_both_parts():
    digits, others = demo.load_data(0), demo.load_data(1)
    everything = torch.cat([digits.train_images, digits.test_images])
    others_too = torch.cat([others.train_images, others.test_images])
    assert sorted(everything.tolist()) == sorted(others_too.tolist())
    assert len(everything.unique(dim=0)) == len(everything)  # all images differ, so none is in both parts


def test_a_fault_inside_scikit_learn_is_not_taken_for_its_absence(monkeypatch):
    def load(name, *args, **kwargs):
        if name == "sklearn.datasets":
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
        return original(name, *args, **kwargs)

    original = __import__
    monkeypatch.setattr("builtins.__import__", load)
    with pytest.raises(ModuleNotFoundError, match="scipy"):
        demo.load_data()


def test_network():
    network = demo.build_network()
    assert repr(network) == "(?, 64) -> [... 6 layers ...] -> (?, 10)"
    probabilities = network(torch.rand(7, 64))
    assert probabilities.shape == (7, 10)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(7))


class Certain(nn.Module):
    """Gives probability one to class 0, whatever it is shown, and has a parameter so that it can be trained."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor([200.0, 0.0, 0.0]))

    def forward(self, images):
        return torch.softmax(self.scores, dim=0).expand(len(images), 3)


def test_training_survives_a_probability_of_zero():
    network = Certain()
    assert network(torch.zeros(1, 1))[0, 1] == 0
    demo.train(network, torch.zeros(4, 1), torch.tensor([0, 1, 2, 1]), 2, torch.Generator())
    assert network.scores.isfinite().all()
    assert network.training


@pytest.mark.parametrize("training", [True, False])
def test_evaluate(training):
    network = Certain().train(training)
    assert demo.evaluate(network, torch.zeros(4, 1), torch.tensor([0, 0, 0, 2])) == 0.75
    assert network.training is training


def test_evaluate_leaves_the_mode_after_a_failure():
    network = demo.build_network()
    with pytest.raises(Exception, match="3"):
        demo.evaluate(network, torch.zeros(4, 3), torch.zeros(4))
    assert network.training


def test_one_epoch(capsys):
    accuracy = demo.run(epochs=1, seed=5)
    out, err = capsys.readouterr()
    assert "(?, 64) -> [... 6 layers ...] -> (?, 10)" in out
    assert f"test accuracy: {accuracy:.4f}" in out
    assert "epoch 1/1" in err
    assert 0.5 < accuracy < 1


def test_full_run_reads_the_digits():
    assert demo.run() >= 0.96


def saved(path, **options):
    """Train, and give the accuracy and what was stored."""
    accuracy = demo.run(epochs=2, save=path, **options)
    return accuracy, torch.load(path)


def test_the_saved_file_restores_the_network(tmp_path):
    accuracy, state = saved(tmp_path / "model.pt", seed=2)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]

    network = demo.build_network()
    network.load_state_dict(state, strict=True)
    digits = demo.load_data(seed=2)
    assert demo.evaluate(network, digits.test_images, digits.test_labels) == accuracy


def test_a_seed_gives_the_same_bits(tmp_path):
    first_accuracy, first = saved(tmp_path / "first.pt", seed=7)
    same_accuracy, same = saved(tmp_path / "same.pt", seed=7)
    _, other = saved(tmp_path / "other.pt", seed=8)

    assert first_accuracy == same_accuracy
    assert list(first) == list(same) == list(other)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_saving_replaces_a_file_and_follows_a_link(tmp_path):
    (tmp_path / "real.pt").write_text("what was there before")
    (tmp_path / "link.pt").symlink_to(tmp_path / "real.pt")
    network = demo.build_network()
    demo.save_state(network, tmp_path / "link.pt")

    assert (tmp_path / "link.pt").is_symlink()
    state = torch.load(tmp_path / "real.pt")
    assert list(state) == list(network.state_dict())


def test_the_saved_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "ordinary").touch()
    demo.save_state(demo.build_network(), tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    def write_half(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    path = tmp_path / "model.pt"
    path.write_text("what was there before")
    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(demo.DemoError, match=r"': No space left on device$"):
        demo.save_state(demo.build_network(), path)

    assert path.read_text() == "what was there before"
    assert os.listdir(tmp_path) == ["model.pt"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"device": None}, "device must be one of cpu, cuda, got None"),
        ({"epochs": 1.5}, "epochs must be a whole number of at least 1, got 1.5"),
        ({"epochs": "3"}, "epochs must be a whole number of at least 1, got '3'"),
        ({"seed": -1}, f"seed must be a whole number from 0 to {2**64 - 1}, got -1"),
    ],
)
def test_wrong_values(options, message):
    with pytest.raises(demo.DemoError) as caught:
        demo.run(**options)
    assert str(caught.value) == message


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_seed_that_is_allowed_works(seed):
    demo.run(epochs=1, seed=seed)


@pytest.mark.cuda
def test_cuda(tmp_path):
    accuracy = demo.run(device="cuda", save=tmp_path / "model.pt")
    assert accuracy >= 0.96

    state = torch.load(tmp_path / "model.pt")
    assert all(value.device.type == "cpu" for value in state.values())
    network = demo.build_network()
    network.load_state_dict(state, strict=True)
    digits = demo.load_data()
    assert demo.evaluate(network, digits.test_images, digits.test_labels) == pytest.approx(accuracy, abs=0.005)
