"""The demo: a small network learns to read handwritten digits.

``python -m torchneupy demo`` calls :func:`run`. The rest is here to be read and reused: the data
(:func:`load_data`), the network (:func:`build_network`), a training loop that holds nothing but
PyTorch (:func:`train`), and a measure of the result (:func:`evaluate`).
"""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from torchneupy.layers import Dropout, Input, LayerGraph, Relu, Softmax, join

__all__ = ["DemoError", "Digits", "build_network", "evaluate", "load_data", "run", "save_state", "train"]

DEVICES = ("cpu", "cuda")
DEFAULT_EPOCHS = 40
DEFAULT_SEED = 0
LARGEST_SEED = 2**64 - 1  # the largest that torch.manual_seed takes

BATCH_SIZE = 64
LEARNING_RATE = 0.003
TEST_SHARE = 0.2  # of the images, never trained on
LARGEST_PIXEL = 16.0


class DemoError(Exception):
    """The demo cannot do what it was asked; the message says why, in one line."""


class Digits(NamedTuple):
    """Images of handwritten digits and what they show, in two parts.

    Attributes
    ----------
    train_images, test_images : Tensor
        Brightness of the 8x8 pixels from 0 to 1, of shape ``(images, 64)``.

    train_labels, test_labels : Tensor
        The digit that each image shows, of shape ``(images,)``.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def to(self, device: str) -> Digits:
        """Give the same images and labels on another device."""
        return Digits(*(tensor.to(device) for tensor in self))


def load_data(seed: int = DEFAULT_SEED) -> Digits:
    """Read the 1,797 images that come with scikit-learn, and set a fifth of them aside for the test.

    Parameters
    ----------
    seed : int
        Decides which images are set aside.

    Returns
    -------
    Digits

    Raises
    ------
    DemoError
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "sklearn":
            raise  # scikit-learn is there, but something that it needs is not
        raise DemoError(
            'scikit-learn, which holds the images, is not installed: pip install "torchneupy[demo]"'
        ) from error

    pixels, digits = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float() / LARGEST_PIXEL
    labels = torch.from_numpy(digits).long()

    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    test, train = order.tensor_split([round(len(images) * TEST_SHARE)])
    return Digits(images[train], labels[train], images[test], labels[test])


def build_network() -> LayerGraph:
    """Make the network, with new random parameters from torch's global generator.

    Returns
    -------
    LayerGraph
        Takes ``(images, 64)``, gives the probability of each digit, ``(images, 10)``.

    Examples
    --------
    >>> build_network()
    (?, 64) -> [... 6 layers ...] -> (?, 10)
    """
    return join(
        Input(64),
        Relu(128) >> Dropout(0.2),
        Relu(64) >> Dropout(0.2),
        Softmax(10),
    )


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, generator: torch.Generator) -> None:
    """Train a classifier by Adam, with a progress bar on the standard error stream for each epoch.

    Parameters
    ----------
    network : nn.Module
        Gives probabilities, one column for each class. It is trained in place and left in training mode.

    images, labels : Tensor
        What it learns from, on the network's device.

    epochs : int
        How many times each image is shown.

    generator : torch.Generator
        Draws the order of the images, on the CPU, so that the order is the same on every device.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    network.train()

    for epoch in range(1, epochs + 1):
        batches = torch.randperm(len(images), generator=generator).to(images.device).split(BATCH_SIZE)
        total_loss, n_correct, n_seen = 0.0, 0, 0

        with tqdm(batches, desc=f"epoch {epoch}/{epochs}", unit="batch") as progress:
            for batch in progress:
                probabilities = network(images[batch])
                # A probability may underflow to zero, whose logarithm has no finite gradient.
                tiny = torch.finfo(probabilities.dtype).tiny
                loss = functional.nll_loss(probabilities.clamp_min(tiny).log(), labels[batch])

                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

                n_seen += len(batch)
                n_correct += int((probabilities.argmax(dim=1) == labels[batch]).sum())
                total_loss += loss.item() * len(batch)
                progress.set_postfix(
                    loss=f"{total_loss / n_seen:.4f}", accuracy=f"{n_correct / n_seen:.4f}", refresh=False
                )


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Tell which share of the images the network reads rightly, and leave its mode as it was.

    Parameters
    ----------
    network : nn.Module
        Gives probabilities, one column for each class.

    images, labels : Tensor
        What it is asked and the right answers, on the network's device.

    Returns
    -------
    float
        From 0 to 1.
    """
    was_training = network.training
    network.eval()
    try:
        answers = network(images).argmax(dim=1)
    finally:
        network.train(was_training)
    return int((answers == labels).sum()) / len(labels)


def save_state(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Store a network's ``state_dict`` for ``torch.load``, its tensors on the CPU.

    The file is complete or not there: what stood under its name before is replaced only at the end.

    Parameters
    ----------
    network : nn.Module
        Stays as it is.

    path : str or path-like
        Where to.

    Raises
    ------
    DemoError
        The file cannot be written.
    """
    state = network.state_dict()
    for key, value in state.items():
        state[key] = value.cpu()  # so that it can be loaded where there is no GPU
    content = io.BytesIO()
    torch.save(state, content)

    target = _target(path)
    beside = _beside(target)
    try:
        beside.write_bytes(content.getbuffer())
        beside.replace(target)
    except OSError as error:
        raise _cannot_save(path, error.strerror) from error
    finally:
        beside.unlink(missing_ok=True)


def run(
    device: str = "cpu",
    epochs: int = DEFAULT_EPOCHS,
    seed: int = DEFAULT_SEED,
    save: str | os.PathLike[str] | None = None,
) -> float:
    """Train a network on the digits, print how it went, and give its accuracy on the images set aside.

    Every value is checked before the training starts.

    Parameters
    ----------
    device : {"cpu", "cuda"}
        Where to compute.

    epochs : int
        How many times each image is shown.

    seed : int
        Decides all that is random; on the CPU the same seed gives the same numbers, bit for bit.
        It is also given to ``torch.manual_seed``, that is, it sets torch's global generator.

    save : str or path-like, optional
        A file for the trained parameters (a ``state_dict``).

    Returns
    -------
    float
        The share of the test images that were read rightly, from 0 to 1.

    Raises
    ------
    DemoError
        A value is wrong, the device is not there, the file cannot be written, or scikit-learn is missing.
    """
    _check_device(device)
    _check_number("epochs", epochs, 1, None)
    _check_number("seed", seed, 0, LARGEST_SEED)
    if save is not None:
        _check_writable(save)
    digits = load_data(seed).to(device)

    torch.manual_seed(seed)
    network = build_network().to(device)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"network: {network}, {n_parameters:,} parameters", flush=True)
    print(f"data: {len(digits.train_images)} images to train on, {len(digits.test_images)} to test with", flush=True)

    train(network, digits.train_images, digits.train_labels, epochs, torch.Generator().manual_seed(seed))
    accuracy = evaluate(network, digits.test_images, digits.test_labels)
    print(f"test accuracy: {accuracy:.4f}", flush=True)

    if save is not None:
        save_state(network, save)
        print(f"saved: {os.fspath(save)}", flush=True)
    return accuracy


def _check_device(device: Any) -> None:
    if device not in DEVICES:
        raise DemoError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise DemoError("device 'cuda' is not there: this PyTorch finds no CUDA GPU; take 'cpu'")


def _check_number(name: str, value: Any, smallest: int, largest: int | None) -> None:
    if isinstance(value, int) and value >= smallest and (largest is None or value <= largest):
        return
    bounds = f"of at least {smallest}" if largest is None else f"from {smallest} to {largest}"
    raise DemoError(f"{name} must be a whole number {bounds}, got {value!r}")


def _check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before the training what would only fail after it, by making a file where the real one will be."""
    target = _target(path)
    try:
        if target.is_dir() or os.fspath(path).endswith(("/", os.sep)):
            raise _cannot_save(path, "it is a folder, not a file")
        if not target.parent.is_dir():
            raise _cannot_save(path, f"there is no folder {str(target.parent)!r}")
        if target.exists() and not target.is_file():
            # Renaming a file over a device or a pipe would remove it.
            raise _cannot_save(path, "it is not an ordinary file")
        beside = _beside(target)
        beside.touch(exist_ok=False)
        beside.unlink()
    except OSError as error:
        raise _cannot_save(path, error.strerror) from error


def _target(path: str | os.PathLike[str]) -> Path:
    """Follow links, so that the file is replaced and the link to it stays."""
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a null character in the name
        raise _cannot_save(path, str(error)) from error


def _beside(target: Path) -> Path:
    """Name a file that is not there yet in the target's folder: only within one file system is renaming safe."""
    return target.with_name(f".torchneupy-{uuid.uuid4().hex}.tmp")


def _cannot_save(path: str | os.PathLike[str], reason: str | None) -> DemoError:
    return DemoError(f"cannot save to {os.fspath(path)!r}: {reason}")
