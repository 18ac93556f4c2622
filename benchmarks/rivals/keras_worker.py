"""Keras 3 on PyTorch: ``python -m benchmarks.rivals.keras_worker DEVICE THREADS``.

Trained with ``train_on_batch``, and called as a function of tensors where nothing is trained.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_TORCH_DEVICE"] = sys.argv[1]  # else it is a GPU, where there is one
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch
from keras import layers

from benchmarks.peak import peak
from benchmarks.rivals.worker import Made, serve

__all__ = ["make"]

DEVICE, THREADS = sys.argv[1], int(sys.argv[2])


def dense(n_layers: int, width: int) -> Any:
    return keras.Sequential([keras.Input((width,)), *[layers.Dense(width, "relu") for _ in range(n_layers)]])


def convolution(size: int, n_blocks: int, n_filters: int) -> Any:
    parts = [keras.Input((size, size, 3))]
    for _ in range(n_blocks):
        parts += [layers.Conv2D(n_filters, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential(parts)


def recurrent(layer_class: Any) -> Callable[..., Any]:
    return lambda n_steps, n_features, n_units: keras.Sequential(
        [keras.Input((n_steps, n_features)), layer_class(n_units)]
    )


NETWORKS: dict[str, Callable[..., Any]] = {
    "dense": dense,
    "convolution": convolution,
    "resnet50": lambda size: keras.applications.ResNet50(weights=None, input_shape=(size, size, 3)),
    "lstm": recurrent(layers.LSTM),
    # NeuPy's GRU is the one that resets before the product.
    "gru": recurrent(lambda n_units: layers.GRU(n_units, reset_after=False)),
    "embedding": lambda n_steps, n_rows, width: keras.Sequential(
        [keras.Input((n_steps,), dtype="int64"), layers.Embedding(n_rows, width)]
    ),
    "vgg16": lambda: keras.applications.VGG16(weights=None),
    "batchnorm": lambda shape: keras.Sequential([keras.Input(shape), layers.BatchNormalization()]),
}


def building(n_layers: int, width: int) -> Made:
    return Made(lambda: dense(n_layers, width))


def training(network: Any, x: torch.Tensor) -> Callable[[], Any]:
    with torch.no_grad():
        target = torch.zeros_like(network(x, training=False))
    network.compile(optimizer=keras.optimizers.SGD(1e-6), loss="mse")
    return lambda: network.train_on_batch(x, target)


def work_of(network: Any, task: str, rows: np.ndarray[Any, Any], batch_size: int | None) -> Callable[[], Any]:
    if task == "predict":
        return lambda: network.predict(rows, batch_size=batch_size, verbose=0)
    x = torch.as_tensor(rows, device=DEVICE)
    if task == "forward":
        return torch.no_grad()(lambda: network(x, training=False))
    if task == "peak of a forward pass":
        return lambda: peak(lambda: network(x, training=True), DEVICE, network.zero_grad)
    train = training(network, x)
    if task == "training step":
        return train
    if task == "peak of a training step":
        return lambda: peak(train, DEVICE, network.zero_grad)
    raise ValueError(f"unknown task: {task}")


def loading(network: Any, path: str) -> Callable[[], Any]:
    own_path = f"{path}.weights.h5"  # it reads no files but its own
    network.save_weights(own_path)
    return lambda: network.load_weights(own_path)


def make(kind: str, task: str, options: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> Made:
    """Make work ready; see worker.py."""
    if kind == "building":
        return building(**options)
    batch_size, path = options.pop("batch_size", None), options.pop("path", None)
    network = NETWORKS[kind](**options)
    devices = {variable.value.device.type for variable in network.variables}
    if devices != {DEVICE}:
        raise RuntimeError(f"expected variables on {DEVICE}, got {devices}")
    n_parameters = int(sum(keras.ops.size(variable) for variable in network.trainable_variables))
    work = loading(network, path) if task == "loading" else work_of(network, task, arrays["x"], batch_size)
    return Made(work, n_parameters)


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    serve(make, {"Keras": keras.__version__}, torch.cuda.synchronize if DEVICE == "cuda" else lambda: None)
