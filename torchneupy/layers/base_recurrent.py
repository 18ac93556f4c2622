"""What all recurrent layers have in common."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch

from torchneupy.core.properties import IntProperty, Property
from torchneupy.core.shape import ShapeLike, TensorShape, merge_dimensions
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers.base import BaseLayer
from torchneupy.layers.modes import in_mode
from torchneupy.layers.sequences import fail_if_too_long, final_state, keep_steps, reverse
from torchneupy.layers.tracing import as_one_node, is_recorded, is_symbolic, is_transformed

__all__ = ["BaseRNNLayer", "for_kernel", "in_one_piece", "keeps_for_gradient", "suits_kernels"]


def suits_kernels(steps: int) -> bool:
    """Whether torch's kernels for whole sequences do what is asked of them here.

    They know no ``vmap``, nor derivatives taken forward, and refuse a sequence of no steps.
    """
    return steps > 0 and not is_transformed()


def for_kernel(input: Any, weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """The weights and biases of a layer, in the order in which torch's kernels take them, as they run fastest."""
    # Not on the CPU, where it would be a copy for nothing.
    return in_one_piece(weights) if input.is_cuda else weights


def keeps_for_gradient(input: Any) -> bool:
    """Whether a kernel has to be told that its gradient will be asked for.

    cuDNN's calls that "training", but here it depends on no mode, as nothing is dropped; the CPU's kernels know by
    themselves.
    """
    return bool(input.is_cuda and torch.is_grad_enabled())


def in_one_piece(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same values, one tensor behind the other in one storage, from its beginning.

    As cuDNN wants weights and biases: others it brings there at each call, and torch warns of it.
    """
    whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
    parts = whole.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


class BaseRNNLayer(BaseLayer):
    """Base class of the recurrent layers.

    A subclass computes the states of all steps, by ``_loop`` or by a kernel; this class sees to the order of the
    steps, to the lengths of sequences, and to what of the states is asked for.

    Parameters
    ----------
    n_units : int
        Number of units.
    only_return_final : bool
        ``True`` gives the state after the last step, ``(batch, n_units)``, ``False`` that after every step, ``(batch,
        steps, n_units)``. Defaults to ``True``.
    name : str or None
        As in :class:`BaseLayer`.
    """

    n_units = IntProperty(minval=1, fixed=True)
    only_return_final = Property(expected_type=bool, fixed=True)

    input_weights: Any
    hidden_weights: Any
    hidden_init: Any
    backwards: Any
    takes_indices = (1,)  # lengths, if there are any

    def __init__(self, n_units: int, only_return_final: bool = True, name: str | None = None) -> None:
        self.specify(n_units=n_units, only_return_final=only_return_final)
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any, lengths_shape: Any = (None,)) -> ShapeLike:
        shape, lengths = TensorShape(input_shape), TensorShape(lengths_shape)
        if shape.ndims not in (None, 3):
            raise LayerConnectionError(
                f"{type(self).__name__} layer expects an input with 3 dimensions (batch, steps, features), got "
                f"{shape.ndims} with shape {shape}. Layer: {self}"
            )
        if lengths.ndims not in (None, 1):
            raise LayerConnectionError(
                f"{type(self).__name__} layer expects the lengths of sequences to have 1 dimension (batch), as from "
                f"Input(()), got {lengths.ndims} with shape {lengths}. Layer: {self}"
            )
        try:
            batch = merge_dimensions(shape[0], lengths[0])
        except ValueError as error:
            raise LayerConnectionError(
                f"{type(self).__name__} layer got sequences of the shape {shape} and lengths of another batch, "
                f"{lengths}. Layer: {self}"
            ) from error
        return TensorShape((batch, self.n_units) if self.only_return_final else (batch, shape[1], self.n_units))

    def count_features(self, input_shape: Any) -> int:
        """The number of features of each step.

        Raises
        ------
        WeightInitializationError
            If it is not known.
        """
        shape = TensorShape(input_shape)
        n_features = shape[-1] if shape else None
        if n_features is None:
            raise WeightInitializationError(
                f"Cannot create variables for the layer `{self.name}`, because number of input features is unknown. "
                f"Input shape: {shape}. Layer: {self}"
            )
        self.input_shape = TensorShape((None, None, n_features))
        return n_features

    def scan(self, input: Any) -> tuple[Any, Any]:
        """The states after each step, ``(batch, steps, n_units)``, and after the last, ``(batch, n_units)``."""
        return self._run_kernel(input) if self._fits_kernel(input) else self._loop(input)

    def begin(self, state: Any, input: Any) -> Any:
        """A state before the first step, ``(1, n_units)``, for each sequence, and of the weights' type.

        FSDP2 in mixed precision gives parameters another type, and leaves buffers as they are.
        """
        return state.to(self.hidden_weights.dtype).expand(input.shape[0], -1)

    def _fits_kernel(self, input: Any) -> bool:
        """Whether a kernel of torch's computes what the options ask for."""
        return False

    def _run_kernel(self, input: Any) -> tuple[Any, Any]:
        """The states by a kernel of torch's."""
        raise NotImplementedError

    def _loop(self, input: Any) -> tuple[Any, Any]:
        """The states step by step, the inputs' products with the weights computed beforehand."""
        raise NotImplementedError

    def output(self, input: Any, lengths: Any = None, training: bool = False, **kwargs: Any) -> Any:
        with ExitStack() as modes:
            for function in self.children():  # which may depend on the mode
                modes.enter_context(in_mode(function, training))
            return self._compute(input, lengths)

    def forward(self, *inputs: Any) -> Any:
        return self._compute(*inputs)  # functions that are modules have their own modes

    def _compute(self, input: Any, lengths: Any = None) -> Any:
        """The output, with functions that are modules as they are."""
        if self.input_weights is None:
            self.fail_if_not_built()
        if is_symbolic(input):
            return as_one_node(self, input) if lengths is None else as_one_node(self, input, lengths)
        if input.ndim != 3 or (not is_recorded() and input.shape[2] != self.input_weights.shape[0]):
            # torch's kernel would read beyond the end.
            raise ValueError(
                f"Layer `{self.name}` got an input of shape {tuple(input.shape)}, expected (batch, steps, "
                f"{self.input_weights.shape[0]}). Layer: {self}"
            )
        if lengths is not None:
            if not is_recorded() and lengths.shape != input.shape[:1]:
                raise ValueError(
                    f"Layer `{self.name}` got lengths of shape {tuple(lengths.shape)} for sequences of shape "
                    f"{tuple(input.shape)}, expected one for each: ({input.shape[0]},). Layer: {self}"
                )
            lengths = lengths.long()
            fail_if_too_long(self, lengths, input.shape[1])
        states, final = self.scan(reverse(input, lengths) if self.backwards else input)
        if self.only_return_final:
            return final if lengths is None else final_state(states, lengths, self.hidden_init)
        if self.backwards:
            states = reverse(states, lengths)
        return states if lengths is None else keep_steps(states, lengths)
