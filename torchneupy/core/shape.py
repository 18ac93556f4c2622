"""Shapes of which some dimensions, or even their number, are not known yet.

Layers work out their shapes before there is any data, when nobody can tell how large a batch will be. A
:class:`TensorShape` holds what is known: every dimension is an integer or None. The functions at the end of this
module calculate with single dimensions in the same spirit: what depends on something unknown is unknown.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex, TypeAlias, final, overload

__all__ = [
    "Dimension",
    "ShapeLike",
    "TensorShape",
    "add_dimensions",
    "apply_to_dimensions",
    "merge_dimensions",
    "multiply_dimensions",
]

Dimension: TypeAlias = int | None


@final
class TensorShape:
    """A shape that may be known only in part.

    It cannot be changed, is equal to the tuple or list of its dimensions, and has the hash of that tuple. As in
    TensorFlow, its truth value tells whether the number of dimensions is known, so the empty shape ``()`` is true.

    Parameters
    ----------
    dims : TensorShape, iterable of (int or None), int or None
        The dimensions, None standing for one that is not known. One integer is a shape of one dimension. None
        alone is the shape of which nothing is known, not even the number of dimensions.

    Raises
    ------
    TypeError
        If a dimension is neither None nor an integer. True and 2.0 are not integers, ``numpy.int64(2)`` is one.
    ValueError
        If a dimension is negative.

    Examples
    --------
    >>> shape = TensorShape([None, 28, 28, 1])
    >>> print(shape)
    (?, 28, 28, 1)
    >>> shape.ndims, shape[0], shape[-1], shape[1:3]
    (4, None, 1, TensorShape([28, 28]))
    >>> shape.merge_with([64, None, None, 1])
    TensorShape([64, 28, 28, 1])
    >>> print(TensorShape(None), TensorShape(10), TensorShape(()))
    <unknown> (10,) ()
    """

    __slots__ = ("_dims",)

    _dims: tuple[Dimension, ...] | None

    def __new__(cls, dims: ShapeLike) -> TensorShape:
        if type(dims) is TensorShape:
            return dims
        self = object.__new__(cls)
        self._dims = None if dims is None else _read_dimensions(dims)
        return self

    @property
    def ndims(self) -> int | None:
        """Number of dimensions, None if it is not known."""
        return None if self._dims is None else len(self._dims)

    @property
    def rank(self) -> int | None:
        """The same as :attr:`ndims`."""
        return self.ndims

    @property
    def dims(self) -> list[Dimension] | None:
        """The dimensions in a new list, or None if their number is not known."""
        return None if self._dims is None else list(self._dims)

    def as_list(self) -> list[Dimension]:
        """Give the dimensions in a new list, or raise ValueError if their number is not known."""
        return list(self._known_dims())

    def is_fully_defined(self) -> bool:
        """Tell whether every dimension is known."""
        return self._dims is not None and None not in self._dims

    def num_elements(self) -> int | None:
        """Count the elements of a tensor of this shape; None if a dimension is not known.

        >>> TensorShape([3, 4]).num_elements(), TensorShape(()).num_elements(), TensorShape([None, 0]).num_elements()
        (12, 1, None)
        """
        return None if self._dims is None else multiply_dimensions(*self._dims)

    def is_compatible_with(self, other: ShapeLike) -> bool:
        """Tell whether one tensor could have both shapes.

        >>> shape = TensorShape([None, 10])
        >>> shape.is_compatible_with([5, None]), shape.is_compatible_with([5, 11]), shape.is_compatible_with(None)
        (True, False, True)
        """
        other = TensorShape(other)
        if self._dims is None or other._dims is None:
            return True
        return len(self._dims) == len(other._dims) and all(
            one is None or another is None or one == another
            for one, another in zip(self._dims, other._dims, strict=True)
        )

    def merge_with(self, other: ShapeLike) -> TensorShape:
        """Give the shape that knows what either of the two knows.

        Raises
        ------
        ValueError
            If the two are not compatible.

        Examples
        --------
        >>> TensorShape([None, 10]).merge_with([5, None])
        TensorShape([5, 10])
        >>> TensorShape([None, 10]).merge_with([5, 11])
        Traceback (most recent call last):
        ...
        ValueError: Shapes (?, 10) and (5, 11) are not compatible
        """
        other = TensorShape(other)
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {other} are not compatible")
        if self._dims is None:
            return other
        if other._dims is None:
            return self
        return TensorShape(map(merge_dimensions, self._dims, other._dims))

    def concatenate(self, other: ShapeLike) -> TensorShape:
        """Give the dimensions of this shape followed by those of the other; unknown if either is.

        >>> TensorShape([None, 10])[:-1].concatenate(3)
        TensorShape([None, 3])
        """
        other = TensorShape(other)
        if self._dims is None or other._dims is None:
            return TensorShape(None)
        return TensorShape(self._dims + other._dims)

    @overload
    def __getitem__(self, key: SupportsIndex) -> Dimension: ...

    @overload
    def __getitem__(self, key: slice) -> TensorShape: ...

    def __getitem__(self, key: SupportsIndex | slice) -> Dimension | TensorShape:
        """Give one dimension, or the shape of several.

        >>> TensorShape(None)[1], TensorShape(None)[1:3], TensorShape(None)[1:]
        (None, TensorShape([None, None]), TensorShape(None))
        """
        if isinstance(key, slice):
            return TensorShape(_slice_of_unknown(key) if self._dims is None else self._dims[key])
        index = operator.index(key)
        try:
            return None if self._dims is None else self._dims[index]
        except IndexError:
            raise IndexError(f"Shape {self} has no dimension at index {index}") from None

    def __len__(self) -> int:
        return len(self._known_dims())

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self._known_dims())

    def __bool__(self) -> bool:
        return self._dims is not None

    def __eq__(self, other: object) -> bool:
        # Never NotImplemented: an array would then compare itself, element by element.
        if other is not None and not isinstance(other, (TensorShape, tuple, list)):
            return False
        try:
            return self._dims == TensorShape(other)._dims
        except (TypeError, ValueError):
            return False

    def __hash__(self) -> int:
        return hash(self._dims)

    def __repr__(self) -> str:
        return f"TensorShape({self.dims})"

    def __str__(self) -> str:
        if self._dims is None:
            return "<unknown>"
        names = ["?" if dim is None else str(dim) for dim in self._dims]
        return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"

    def __copy__(self) -> TensorShape:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorShape:
        return self

    def __reduce__(self) -> tuple[type[TensorShape], tuple[ShapeLike]]:
        return TensorShape, (self._dims,)

    def _known_dims(self) -> tuple[Dimension, ...]:
        if self._dims is None:
            raise ValueError(f"The number of dimensions of the shape {self} is not known")
        return self._dims


ShapeLike: TypeAlias = TensorShape | Iterable[Dimension] | int | None


def _read_dimensions(dims: Any) -> tuple[Dimension, ...]:
    """Check what was given as a shape and make a tuple of it."""
    given = dims if type(dims) is tuple else tuple(_iterate(dims))
    for dim in given:
        if dim is not None and (type(dim) is not int or dim < 0):
            return tuple(_read_dimension(dim, given) for dim in given)
    return given


def _iterate(dims: Any) -> Iterable[Any]:
    """Iterate over what was given as a shape; anything that is no collection is a single dimension."""
    try:
        return (dims,) if isinstance(dims, (str, bytes)) else iter(dims)
    except TypeError:
        return (dims,)


def _read_dimension(dim: Any, given: tuple[Any, ...]) -> Dimension:
    """Check one dimension of a given shape, which the message quotes, and make a plain integer of it."""
    if dim is None:
        return None
    try:
        size = None if isinstance(dim, bool) else operator.index(dim)
    except TypeError:
        size = None
    if size is None:
        raise TypeError(f"A dimension must be an integer, or None if not known, got {dim!r} in the shape {given}")
    if size < 0:
        raise ValueError(f"A dimension must not be negative (None if not known), got {size} in the shape {given}")
    return size


def _slice_of_unknown(key: slice) -> list[None] | None:
    """Slice a shape of unknown rank: only ``[a:b]``, counted from the front, tells how many dimensions come out."""
    start = 0 if key.start is None else key.start
    if key.step is not None or key.stop is None or start < 0 or key.stop < 0:
        return None
    return [None] * len(range(start, key.stop))


def apply_to_dimensions(function: Callable[..., int], *dims: Dimension) -> Dimension:
    """Call the function on dimensions that are all known; None if one of them is not.

    >>> def halve(size):
    ...     return size // 2
    >>> apply_to_dimensions(halve, 28), apply_to_dimensions(halve, None)
    (14, None)
    """
    return None if None in dims else function(*dims)


def merge_dimensions(a: Dimension, b: Dimension) -> Dimension:
    """Give the one of two dimensions that is known, or raise ValueError if both are and they differ.

    >>> merge_dimensions(None, 5), merge_dimensions(5, 5), merge_dimensions(None, None)
    (5, 5, None)
    """
    if a is None:
        return b
    if b is not None and a != b:
        raise ValueError(f"Dimensions {a} and {b} are not compatible")
    return a


def add_dimensions(*dims: Dimension) -> Dimension:
    """Add dimensions up; None if one of them is not known.

    >>> add_dimensions(3, 4), add_dimensions(3, None)
    (7, None)
    """
    return apply_to_dimensions(lambda *sizes: sum(sizes), *dims)


def multiply_dimensions(*dims: Dimension) -> Dimension:
    """Multiply dimensions; None if one of them is not known, even if another is 0.

    >>> multiply_dimensions(3, 4), multiply_dimensions(3, None), multiply_dimensions(0, None)
    (12, None, None)
    """
    return apply_to_dimensions(lambda *sizes: math.prod(sizes), *dims)
