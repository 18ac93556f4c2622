"""The real NeuPy on TensorFlow: ``python -m benchmarks.rivals.neupy_worker THREADS``.

Trained with NeuPy's ``GradientDescent``; where nothing is trained, a session computes the network's outputs. As
worker.py, this has to run on Python 3.6.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

if os.environ.get("NEUPY_SETUP"):
    __import__(os.environ["NEUPY_SETUP"])

import neupy
import numpy as np
import tensorflow as tf
from neupy import algorithms, architectures, layers, storage
from neupy.layers import join
from neupy.utils import tf_utils

from benchmarks.rivals.worker import Made, serve

__all__ = ["make"]


def dense(n_layers: int, width: int) -> Any:
    return join(layers.Input(width), *[layers.Relu(width) for _ in range(n_layers)])


def convolution(size: int, n_blocks: int, n_filters: int) -> Any:
    parts = [layers.Input((size, size, 3))]
    for _ in range(n_blocks):
        parts += [layers.Convolution((3, 3, n_filters), padding="same"), layers.BatchNorm(), layers.Relu()]
    return join(*parts)


def recurrent(layer_class: Any) -> "Callable[..., Any]":
    return lambda n_steps, n_features, n_units: join(layers.Input((n_steps, n_features)), layer_class(n_units))


NETWORKS: "dict[str, Callable[..., Any]]" = {
    "dense": dense,
    "convolution": convolution,
    "resnet50": lambda size: architectures.resnet50((size, size, 3)),
    "lstm": recurrent(layers.LSTM),
    "gru": recurrent(layers.GRU),
    "embedding": lambda n_steps, n_rows, width: join(layers.Input(n_steps), layers.Embedding(n_rows, width)),
    "vgg16": architectures.vgg16,
    "batchnorm": lambda shape: join(layers.Input(tuple(shape)), layers.BatchNorm()),
}


def building(n_layers: int, width: int) -> Made:
    def build() -> None:
        tf.reset_default_graph()  # a graph that grows would be slower each time
        dense(n_layers, width).create_variables()

    return Made(build)


def new_session() -> Any:
    """A graph of its own: NeuPy trains all the running statistics that it finds in one."""
    tf.reset_default_graph()
    threads = int(sys.argv[1])
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    tf_utils.tensorflow_session.cache = tf.Session(config=config)
    return tf_utils.tensorflow_session.cache


def peak(session: Any, work: "Callable[[], Any]") -> float:
    """KiB that a session's run takes at its peak, by what TensorFlow records of each allocation."""
    run, peaks = session.run, []

    def traced(fetches: Any, feed_dict: Any = None) -> Any:
        trace = tf.RunMetadata()
        result = run(fetches, feed_dict, tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), trace)
        nodes = [node for device in trace.step_stats.dev_stats for node in device.node_stats]
        records = [record for node in nodes for memory in node.memory for record in memory.allocation_records]
        held = highest = 0
        # Less than 0 bytes where memory is given back, which comes first within a microsecond.
        for _, size in sorted((record.alloc_micros, record.alloc_bytes) for record in records):
            held += size
            highest = max(highest, held)
        peaks.append(highest / 1024)
        return result

    session.run = traced
    try:
        work()
    finally:
        del session.run
    return max(peaks)


def make(kind: str, task: str, options: "dict[str, Any]", arrays: "dict[str, np.ndarray[Any, Any]]") -> Made:
    """Make work ready; see worker.py."""
    if kind == "building":
        return building(**options)
    session = new_session()
    batch_size, path = options.pop("batch_size", None), options.pop("path", None)
    network = NETWORKS[kind](**options)
    outputs, placeholder = network.outputs, network.inputs
    n_parameters = sum(int(np.prod(v.shape.as_list())) for v in network.variables.values() if v.trainable)
    tf_utils.initialize_uninitialized_variables()
    if task == "loading":

        def load() -> None:
            tf_utils.tensorflow_session.cache = session
            storage.load_hdf5(network, path)

        return Made(load, n_parameters)
    x = arrays["x"]
    if task == "predict":

        def predict() -> Any:
            tf_utils.tensorflow_session.cache = session
            return network.predict(x, batch_size=batch_size, verbose=False)

        return Made(predict, n_parameters)
    if task == "forward":
        return Made(lambda: session.run(outputs, {placeholder: x}), n_parameters)
    target = np.zeros_like(session.run(outputs, {placeholder: x}))
    optimizer = algorithms.GradientDescent(
        network, loss="mse", step=1e-6, batch_size=None, shuffle_data=False, verbose=False
    )

    def train() -> Any:
        return optimizer.one_training_update(x, target)

    if task == "training step":
        return Made(train, n_parameters)
    if task == "peak of a training step":
        return Made(lambda: peak(session, train), n_parameters)
    raise ValueError(f"unknown task: {task}")


if __name__ == "__main__":
    serve(make, {"NeuPy": neupy.__version__, "TensorFlow": tf.__version__})
