"""What is said of the recorded run: why goals are missed in it, and which of its results README.rst shows first.

All of it names results by their question and their rival, and a test holds these names to the recorded run.
"""

from __future__ import annotations

from benchmarks.rivals.apart import KERAS, NEUPY

__all__ = ["LIMIT", "REASONS", "SUMMARY"]

#: How many times a goal may be missed with a reason; what is slower than that has another one.
LIMIT = 1.35

EMBEDDING = "nn.Sequential of nn.Embedding"
IMAGES = "nn.BatchNorm2d, channels_last"
BY_DEFAULT = "torch.nn, default layout"
CHANNELS_LAST = "torch.nn, channels_last"

AT_THE_GOAL = "The goal is within the quartiles, or next to them: runs come out on both sides of it."
LOOK_UP = "The look-up takes two thirds of the time; the network, which checks its input, is 3 us behind nn.Sequential."
FRAMES = (
    "torch calls compiled modules of classes that are not its own through two more frames, a third of the "
    "difference, as a user's module around nn.Embedding shows. The rest, presumably, are guards."
)
TRANSPOSED = (
    "Its two weights are transposed for torch's kernel at each call, 0.08 ms of 2.6; given as views they cost the "
    "kernel 0.1 ms."
)
REORDERED = (
    "Its weights are brought into the order of torch's kernel at each call, 0.08 ms of 4. So is its input; on "
    "the copy the kernel takes up to 0.3 ms longer than on the same values in one place."
)
COLD = (
    "The kernels take as long. What is around them takes 11 us for an input of one pixel, and 77 us where 16 MB are "
    "read and written between two calls, so that the code has left the caches; in torch.nn 9 and 63 us. Asked alone, "
    "in several processes, the ratio was 1.03 to 1.09. What makes the rest of the difference has not been found."
)
LAYERS = (
    "Twelve layers are 0.2 of 6.5 ms behind. Where the caches are emptied between two calls, BatchNorm alone is 14 us "
    "behind torch.nn's, which is a quarter of it; the rest has not been found."
)
DEFAULT_LAYOUT = (
    "torch.nn takes a fifth to a quarter more in its default layout than in channels_last on this processor, and half "
    "more on an AMD EPYC, on which the goal was set."
)
STATISTICS = (
    "The running statistics, which are NeuPy's, are updated after torch's kernel and not in it. For an input of one "
    "pixel, where 16 MB are read and written between two calls, that is 140 us against 88, the difference of the "
    "forward pass of 32x32; with backward, runs differ by more than is missing."
)
PATCHES = (
    "Convolutions of small images are computed as products of matrices, in 0.70 of torch.nn's time, and backward needs "
    "the patches of which these are made. The peak of the training step is 0.99."
)
KERAS_RECURRENT = "Keras takes 2.8 times as long as nn.LSTM here: 0.35 of that is no more than nn.LSTM takes."
KERAS_CONVOLUTION = (
    "Keras takes 1.25 times torch's time on an AMD EPYC: 0.60 of that would be less than torch's kernels take."
)
NEUPY_RECURRENT = (
    "NeuPy takes no longer than nn.GRU. 708 million operations of matrix products are three quarters "
    "of that kernel's time on an AMD EPYC."
)

#: Question and rival to the reason why the goal is missed, or may be: most goals were set on another processor.
REASONS: dict[tuple[str, str], str] = {
    ("dense, batch 8, training step", "nn.Sequential"): AT_THE_GOAL,
    ("dense, batch 8, compiled, training step", "compiled nn.Sequential"): AT_THE_GOAL,
    ("dense, batch 512, training step", "nn.Sequential"): AT_THE_GOAL,
    ("dense, batch 512, compiled, training step", "compiled nn.Sequential"): AT_THE_GOAL,
    ("convolutions 32x32, batch 16, forward without gradients", BY_DEFAULT): DEFAULT_LAYOUT,
    ("convolutions 32x32, batch 16, forward without gradients", CHANNELS_LAST): LAYERS,
    ("convolutions 32x32, batch 16, training step", BY_DEFAULT): AT_THE_GOAL,
    ("convolutions 32x32, batch 16, training step", NEUPY): AT_THE_GOAL,
    ("convolutions 224x224, batch 2, forward without gradients", BY_DEFAULT): DEFAULT_LAYOUT,
    ("convolutions 224x224, batch 2, forward without gradients", CHANNELS_LAST): AT_THE_GOAL,
    ("convolutions 224x224, batch 2, training step", BY_DEFAULT): AT_THE_GOAL,
    ("convolutions 224x224, batch 2, training step", KERAS): KERAS_CONVOLUTION,
    ("ResNet-50, 224x224, batch 2, forward without gradients", CHANNELS_LAST): AT_THE_GOAL,
    ("BatchNorm 16x32x32x64, evaluation, forward without gradients", IMAGES): COLD,
    ("BatchNorm 2x224x224x16, evaluation, forward without gradients", IMAGES): COLD,
    ("BatchNorm 16x32x32x64, training, forward without gradients", IMAGES): STATISTICS,
    ("BatchNorm 16x32x32x64, training, forward and backward", IMAGES): STATISTICS,
    ("BatchNorm 2x224x224x16, training, forward without gradients", IMAGES): STATISTICS,
    ("BatchNorm 2x224x224x16, training, forward and backward", IMAGES): STATISTICS,
    ("Embedding 10000x64, 32x50 indices, forward without gradients", EMBEDDING): LOOK_UP,
    ("Embedding 10000x64, 32x50 indices, forward and backward", EMBEDDING): AT_THE_GOAL,
    ("Embedding 10000x64, 32x50 indices, compiled, forward without gradients", f"compiled {EMBEDDING}"): FRAMES,
    ("LSTM, forward without gradients", "nn.LSTM"): TRANSPOSED,
    ("LSTM, forward without gradients", KERAS): KERAS_RECURRENT,
    ("LSTM, forward and backward", "nn.LSTM"): TRANSPOSED,
    ("GRU, forward without gradients", "nn.GRU"): REORDERED,
    ("GRU, forward and backward", "nn.GRU"): REORDERED,
    ("GRU, training step", NEUPY): NEUPY_RECURRENT,
    ("ResNet-50, 64x64, peak of a forward pass", "torch.nn"): PATCHES,
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
    ("ResNet-50, 64x64, batch 8, whole training step as one graph", "torch.nn, eager, channels_last"),
    ("ResNet-50, 224x224, batch 2, training step", "torch.nn, channels_last"),
    ("LSTM, training step", "nn.LSTM"),
    ("LSTM, training step", NEUPY),
    ("predict, 100,000 rows in batches of 1,000", "nn.Sequential in a loop"),
    ("building 100 layers by join", NEUPY),
    ("convolutions 32x32, peak of a training step", KERAS),
    ("loading an HDF5 file of 553 MB", "h5py, into new arrays"),
    ("loading an HDF5 file of 553 MB", NEUPY),
)
