"""Rules by which the first values of a parameter are drawn.

>>> from torchneupy import init
>>> init.XavierUniform(gain=2)
XavierUniform(gain=2)
>>> init.XavierUniform(gain=2).sample((3, 4)).shape
torch.Size([3, 4])

A rule that draws takes a ``seed``, an integer from 0 to ``2 ** 32 - 1``, or None. With a seed, every call gives the
same values on whatever device, and touches no global generator; without one, `torch.manual_seed` makes the values
reproducible.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from torchneupy.core.shape import ShapeLike, TensorShape

__all__ = [
    "Constant",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "Normal",
    "Orthogonal",
    "Uniform",
    "XavierNormal",
    "XavierUniform",
]

Array: TypeAlias = npt.NDArray[np.float64]


def identify_fans(shape: ShapeLike) -> tuple[int, int]:
    """Count the inputs and the outputs that a parameter of this shape connects.

    They are ``n`` and 1 for the shape ``(n,)``, the two sizes of a matrix, and in longer shapes, such as ``(rows,
    columns, in, out)`` of a convolution, the last two sizes, each times all the sizes before them.

    Raises
    ------
    ValueError
        If a size is unknown, or if there are no dimensions.

    Examples
    --------
    >>> identify_fans((3,)), identify_fans((3, 4)), identify_fans((2, 5, 3, 4))
    ((3, 1), (3, 4), (30, 40))
    """
    return _fans(_known_sizes("identify_fans", shape))


class Initializer(ABC):
    """Base class of all rules; one of your own needs nothing but a method ``sample(shape)``."""

    @abstractmethod
    def sample(self, shape: ShapeLike, return_array: bool = False) -> Tensor | Array:
        """Make the values for a parameter.

        Parameters
        ----------
        shape : tuple of int
            The parameter's shape, every size of which has to be known.
        return_array : bool, default False
            Give a NumPy array, of the very numbers that NeuPy gives: without a seed they come from NumPy's global
            generator (`numpy.random.seed`). They are not the numbers of the tensor.

        Returns
        -------
        Tensor or ndarray
            A tensor of torch's default dtype on torch's default device (on ``meta``, nothing is drawn), or an array
            of float64.

        Raises
        ------
        TypeError
            If a size is not an integer.
        ValueError
            If a size is negative or unknown, or if the rule has no use for that number of dimensions.
        """


class _Sampler(Initializer):
    """How the rules of this module sample: the shape is checked, the type of the result known from the call."""

    @overload
    def sample(self, shape: ShapeLike, return_array: Literal[False] = False) -> Tensor: ...

    @overload
    def sample(self, shape: ShapeLike, return_array: Literal[True]) -> Array: ...

    @overload
    def sample(self, shape: ShapeLike, return_array: bool = False) -> Tensor | Array: ...

    def sample(self, shape: ShapeLike, return_array: bool = False) -> Tensor | Array:
        return self._draw(_known_sizes(self, shape), return_array)

    @abstractmethod
    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array: ...


class Constant(_Sampler):
    """The same value everywhere: a number or bool (else TypeError), 0 by default, which may be infinite or NaN.

    >>> Constant(2).sample((3,))
    tensor([2., 2., 2.])
    """

    def __init__(self, value: float = 0) -> None:
        self.value = _checked_number(self, "value", value)

    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array:
        if return_array:
            return np.full(shape, self.value, dtype=np.float64)
        return torch.full(shape, self.value, dtype=torch.get_default_dtype())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value})"


class Normal(_Sampler):
    """Independent values from a normal distribution.

    Parameters
    ----------
    mean : float, default 0
    std : float, default 0.01
        The standard deviation, not its square.
    seed : int, optional

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type, or not finite, or if `std` is negative.

    Examples
    --------
    >>> Normal(seed=0).sample((2,), return_array=True).round(4)
    array([0.0176, 0.004 ])
    """

    def __init__(self, mean: float = 0, std: float = 0.01, seed: int | None = None) -> None:
        self.mean = _checked_number(self, "mean", mean, -math.inf)
        self.std = _checked_number(self, "std", std, 0)
        self.seed = _checked_seed(self, seed)

    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array:
        if return_array:
            return _numpy_generator(self.seed).normal(self.mean, self.std, shape)
        return _filled(shape, self.seed, lambda empty, rng: empty.normal_(self.mean, self.std, generator=rng))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


class Uniform(_Sampler):
    """Independent values, equally likely everywhere between two limits.

    Parameters
    ----------
    minval, maxval : float, default 0 and 1
        The upper limit itself is not drawn, but a dtype of low precision may round to it.
    seed : int, optional

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type, or not finite, or if `maxval` is less than `minval`.

    Examples
    --------
    >>> Uniform(-1, 1, seed=0).sample((2,), return_array=True).round(4)
    array([0.0976, 0.4304])
    """

    def __init__(self, minval: float = 0, maxval: float = 1, seed: int | None = None) -> None:
        self.minval = _checked_number(self, "minval", minval, -math.inf)
        self.maxval = _checked_number(self, "maxval", maxval, minval)
        self.seed = _checked_seed(self, seed)

    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array:
        if return_array:
            return _numpy_generator(self.seed).uniform(self.minval, self.maxval, shape)
        return _filled(shape, self.seed, lambda empty, rng: empty.uniform_(self.minval, self.maxval, generator=rng))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.minval}, {self.maxval})"


class Orthogonal(_Sampler):
    """A matrix whose columns, or rows if it has more columns, are orthogonal and `scale` long.

    A vector gets the values of ``Normal()``, not scaled, as in NeuPy. For other numbers of dimensions `sample` raises
    ValueError.

    Parameters
    ----------
    scale : float, default 1.0
    seed : int, optional

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type, or not finite.

    References
    ----------
    Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks,
    2013.

    Examples
    --------
    >>> matrix = Orthogonal(scale=2).sample((4, 3))
    >>> torch.allclose(matrix.T @ matrix, 4 * torch.eye(3), atol=1e-5)
    True
    """

    def __init__(self, scale: float = 1.0, seed: int | None = None) -> None:
        self.scale = _checked_number(self, "scale", scale, -math.inf)
        self.seed = _checked_seed(self, seed)

    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array:
        if len(shape) not in (1, 2):
            raise ValueError(f"{self} needs a shape of 1 or 2 dimensions, got {len(shape)}: {shape}")
        normal = Normal(seed=self.seed)
        if len(shape) == 1:
            return normal._draw(shape, return_array)
        if return_array:  # from singular vectors, as NeuPy's numbers are
            left, _, right = np.linalg.svd(normal.sample(shape, return_array=True), full_matrices=False)
            return self.scale * (left if shape[0] > shape[1] else right)
        return _filled(shape, self.seed, self._fill)

    def _fill(self, empty: Tensor, rng: Generator | None) -> Tensor:
        # Half precision has no decomposition, hence float32. The signs make all orthogonal matrices equally likely; the
        # basis alone does not (Mezzadri: How to generate random matrices from the classical compact groups, 2007).
        tall = empty.new_empty(sorted(empty.shape, reverse=True), dtype=torch.promote_types(empty.dtype, torch.float32))
        basis, factor = torch.linalg.qr(tall.normal_(generator=rng))
        basis = self.scale * basis * factor.diagonal().sgn()
        return empty.copy_(basis if basis.shape == empty.shape else basis.T)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(scale={self.scale})"


class InitializerWithGain(Initializer):
    """Base class of the rules whose variance is `gain` over a number of fans (see `identify_fans`).

    Parameters
    ----------
    gain : float, default 1.0
        The papers cited have 2, as have the default weights of Relu, PRelu and the convolutions.
    seed : int, optional

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type, or not finite, or if `gain` is negative.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain = _checked_number(self, "gain", gain, 0)
        self.seed = _checked_seed(self, seed)

    def _normal(self, fans: int) -> Normal:
        # Only a parameter without elements has no fans; it may have any variance.
        return Normal(0, math.sqrt(self.gain * (1 / max(fans, 1))), self.seed)

    def _uniform(self, fans: int) -> Uniform:
        limit = math.sqrt(self.gain * (3 / max(fans, 1)))  # the variance is a third of the limit's square
        return Uniform(-limit, limit, self.seed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gain={self.gain})"


class HeNormal(_Sampler, InitializerWithGain):
    """Normal values of variance ``gain / fan_in``. The options are those of `InitializerWithGain`.

    References
    ----------
    He, Zhang, Ren, Sun: Delving deep into rectifiers: surpassing human-level performance on ImageNet classification,
    2015.

    Examples
    --------
    >>> HeNormal(seed=0).sample((4, 1), return_array=True).ravel().round(4)
    array([0.882 , 0.2001, 0.4894, 1.1204])
    """

    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array:
        return self._normal(_fans(shape)[0])._draw(shape, return_array)


class HeUniform(_Sampler, InitializerWithGain):
    """Uniform values of variance ``gain / fan_in``, symmetric about 0. Options and paper are those of `HeNormal`.

    >>> HeUniform().sample((300, 100)).abs().max() <= 0.1
    tensor(True)
    """

    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array:
        return self._uniform(_fans(shape)[0])._draw(shape, return_array)


class XavierNormal(_Sampler, InitializerWithGain):
    """Normal values of variance ``gain / (fan_in + fan_out)``. The options are those of `InitializerWithGain`.

    References
    ----------
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010.

    Examples
    --------
    >>> XavierNormal(gain=0).sample((1, 3))
    tensor([[0., 0., 0.]])
    """

    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array:
        return self._normal(sum(_fans(shape)))._draw(shape, return_array)


class XavierUniform(_Sampler, InitializerWithGain):
    """Uniform values of variance ``gain / (fan_in + fan_out)``, symmetric about 0. The rest is as for `XavierNormal`.

    >>> XavierUniform().sample((200, 100)).abs().max() <= 0.1
    tensor(True)
    """

    def _draw(self, shape: tuple[int, ...], return_array: bool) -> Tensor | Array:
        return self._uniform(sum(_fans(shape)))._draw(shape, return_array)


def _fans(sizes: tuple[int, ...]) -> tuple[int, int]:
    if not sizes:
        raise ValueError(f"A variance by He or Xavier needs a shape of at least one dimension, got {sizes}")
    if len(sizes) == 1:
        return sizes[0], 1
    *field, fan_in, fan_out = sizes
    return fan_in * math.prod(field), fan_out * math.prod(field)


def _known_sizes(owner: object, shape: ShapeLike) -> tuple[int, ...]:
    sizes = TensorShape(shape)
    if not sizes.is_fully_defined():
        raise ValueError(f"{owner} needs a shape of which every size is known, got {sizes}")
    return cast(tuple[int, ...], tuple(sizes))


def _checked_number(owner: object, name: str, value: float, minimum: float | None = None) -> float:
    """Give the value back if it is a number and, where there is a minimum, finite and not less."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{type(owner).__name__} needs a number as its {name}, got {value!r}")
    if minimum is not None and not (math.isfinite(value) and value >= minimum):
        least = "" if minimum == -math.inf else f" of at least {minimum}"
        raise ValueError(f"{type(owner).__name__} needs a finite number{least} as its {name}, got {value!r}")
    return value


def _checked_seed(owner: object, seed: int | None) -> int | None:
    if seed is None:
        return None
    message = f"{type(owner).__name__} needs None or an integer from 0 to 2 ** 32 - 1 as its seed, got {seed!r}"
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(message)
    if not 0 <= seed < 2**32:  # the range of numpy.random.RandomState
        raise ValueError(message)
    return int(seed)


def _numpy_generator(seed: int | None) -> np.random.RandomState:
    # The functions of the module numpy.random are the methods of NumPy's global RandomState.
    return cast(np.random.RandomState, np.random) if seed is None else np.random.RandomState(seed)


def _filled(shape: tuple[int, ...], seed: int | None, fill: Callable[[Tensor, Generator | None], Tensor]) -> Tensor:
    device = torch.get_default_device()
    if device.type == "meta":
        return torch.empty(shape, device=device)
    if seed is None:
        return fill(torch.empty(shape, device=device), None)
    # Generators of different devices differ, so that a seed has one meaning only if the CPU's is used for all.
    return fill(torch.empty(shape, device="cpu"), Generator("cpu").manual_seed(seed)).to(device)
