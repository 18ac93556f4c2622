"""What is said of the recorded run: why goals are missed in it, and which of its results README.rst shows first.

All of it names results by their question and their rival, and a test holds these names to the recorded run.
"""

from __future__ import annotations

from benchmarks.rivals.apart import KERAS, NEUPY

__all__ = ["REASONS", "SUMMARY"]

EMBEDDING = "nn.Sequential of nn.Embedding"
IMAGES = "nn.BatchNorm2d, channels_last"
BY_DEFAULT = "torch.nn, default layout"

AT_THE_GOAL = "The goal is within the quartiles: runs come out on both sides of it."
LOOK_UP = "Of 22 us 15 are the look-up itself; the network checks its input, and is 1 us behind nn.Sequential."
FRAMES = (
    "torch calls compiled modules of classes that are not its own through two more frames, which takes 4 us of the 6, "
    "for any module of a user; the rest are guards."
)
WEIGHTS = "Its two weights are transposed for torch's kernel at each call: 0.16 ms of 3.6, by the profiler."
MENDED = "Mended after this run: torch multiplied each step on its own, in twice the time, where no gradient is wanted."
STATISTICS = (
    "Of 0.48 ms forward 0.44 are torch's kernel. The running statistics, which are NeuPy's, are updated behind it and "
    "not in it: 10 us; changes of axes take 7 us, calls the rest."
)
SAME_PRODUCTS = "The same products in the same order as the rival's: 1 is within the quartiles."
KERAS_RECURRENT = "Keras takes 2.7 times torch's time here: 0.35 of that would be less than torch's own kernel takes."
KERAS_CONVOLUTION = "Keras takes 1.25 times torch's time here: 0.60 of that would be less than torch's kernels take."
NEUPY_RECURRENT = (
    "NeuPy takes as long as torch. About 12 ms of torch's step are matrix products: 708 million operations, at the 60 "
    "thousand million in a second that this machine reaches for such sizes."
)

#: Question and rival to the reason why the goal is missed, or may be.
REASONS: dict[tuple[str, str], str] = {
    ("dense, batch 8, training step", "nn.Sequential"): AT_THE_GOAL,
    ("dense, batch 8, compiled, training step", "compiled nn.Sequential"): SAME_PRODUCTS,
    ("dense, batch 512, compiled, training step", "compiled nn.Sequential"): SAME_PRODUCTS,
    ("convolutions 32x32, batch 16, training step", NEUPY): AT_THE_GOAL,
    ("convolutions 224x224, batch 2, training step", BY_DEFAULT): AT_THE_GOAL,
    ("convolutions 224x224, batch 2, training step", KERAS): KERAS_CONVOLUTION,
    ("BatchNorm 16x32x32x64, training, forward without gradients", IMAGES): STATISTICS,
    ("BatchNorm 16x32x32x64, training, forward and backward", IMAGES): STATISTICS,
    ("BatchNorm 2x224x224x16, training, forward without gradients", IMAGES): STATISTICS,
    ("BatchNorm 2x224x224x16, training, forward and backward", IMAGES): STATISTICS,
    ("Embedding 10000x64, 32x50 indices, forward without gradients", EMBEDDING): LOOK_UP,
    ("Embedding 10000x64, 32x50 indices, forward and backward", EMBEDDING): AT_THE_GOAL,
    ("Embedding 10000x64, 32x50 indices, compiled, forward without gradients", f"compiled {EMBEDDING}"): FRAMES,
    ("LSTM, forward without gradients", "nn.LSTM"): WEIGHTS,
    ("LSTM, forward without gradients", KERAS): KERAS_RECURRENT,
    ("LSTM, training step", KERAS): KERAS_RECURRENT,
    ("GRU, forward without gradients", "nn.GRU"): MENDED,
    ("GRU, training step", NEUPY): NEUPY_RECURRENT,
}

#: Question and rival of the results that tell most.
SUMMARY: tuple[tuple[str, str], ...] = (
    ("dense, batch 8, forward without gradients", "nn.Sequential"),
    ("dense, batch 8, training step", "nn.Sequential"),
    ("dense, batch 8, training step", NEUPY),
    ("dense, batch 8, whole training step as one graph", NEUPY),
    ("ResNet-50, 64x64, batch 8, training step", "torch.nn, default layout"),
    ("ResNet-50, 64x64, batch 8, training step", "torch.nn, channels_last"),
    ("ResNet-50, 64x64, batch 8, training step", KERAS),
    ("ResNet-50, 224x224, batch 2, training step", "torch.nn, channels_last"),
    ("LSTM, training step", "nn.LSTM"),
    ("LSTM, training step", NEUPY),
    ("predict, 100,000 rows in batches of 1,000", "nn.Sequential in a loop"),
    ("building 100 layers by join", NEUPY),
    ("loading an HDF5 file of 553 MB", "h5py, into new arrays"),
)
