"""Options that become variables of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from torchneupy import init
from torchneupy.core.declarations import NUMBER_TYPES, BaseProperty, Declaration, describe_owner, plain_number

__all__ = ["Given", "ParameterProperty", "ScalarVariableProperty", "describe_array"]


class Given:
    """Stands for an array or tensor that was given for a variable, once the variable holds its values."""

    def __init__(self, value: Any) -> None:
        self.text = describe_array(value)

    def __repr__(self) -> str:
        return self.text


def describe_array(value: Any) -> str:
    """What an array or tensor is and its shape, in place of its values."""
    kinds: list[tuple[str, Any]] = [
        ("Variable", nn.Parameter),
        ("Tensor", torch.Tensor),
        ("Matrix", np.matrix),
        ("Array", np.ndarray),
    ]
    kind = next(name for name, kind in kinds if isinstance(value, kind))
    return f"<{kind} shape={tuple(value.shape)}>"


class ParameterProperty(Declaration):
    """An option that becomes a variable of a layer: an ``nn.Parameter``, or a buffer if it is not trained.

    Assigned may be an initialiser, a number (which stands for ``init.Constant``), an array or a tensor. Reading the
    attribute of a layer gives the variable, or ``None`` as long as it was not made; ``specification`` gives what was
    asked for. This descriptor has no ``__set__``: ``nn.Module`` registers parameters by itself, and what
    ``parametrize`` or ``prune`` put in the attribute's place must win.

    Parameters
    ----------
    default, required, allow_none, fixed
        As in :class:`BaseProperty`.
    trainable : bool
        Where the variable is expected: among the parameters, else among the buffers. Where it is in the end is up to
        the layer that makes it. Defaults to ``True``.
    """

    expected_type = (np.ndarray, *NUMBER_TYPES, init.Initializer, torch.Tensor)

    def __init__(self, *args: Any, trainable: bool = True, **kwargs: Any) -> None:
        self.trainable = trainable
        super().__init__(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # Read with every call of a layer, hence the short way first.
        try:
            return (instance._parameters if self.trainable else instance._buffers)[self.name]
        except (AttributeError, KeyError):
            return None if instance is None else self.elsewhere(instance)

    def elsewhere(self, instance: Any) -> Any:
        """The variable, if it is not where it was expected, or under another attribute; else AttributeError.

        ``hasattr`` must be False where nothing was registered: nn.Module refuses a name that an object has already.
        """
        values = vars(instance)
        key = values.get("_variable_keys", {}).get(self.name, self.name)
        if key != self.name:
            return getattr(instance, key)
        # By these attributes, unlike `values`, a compiler knows that a tensor is a module's, whose sizes stay.
        for tensors in (instance._parameters, instance._buffers):
            if key in tensors:
                return tensors[key]
        raise AttributeError(f"{describe_owner(instance)} has no variable `{self.name}`")

    def normalise(self, value: Any) -> Any:
        return init.Constant(plain_number(value)) if isinstance(value, NUMBER_TYPES) else value

    def validate(self, value: Any) -> None:
        super().validate(value)
        if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
            raise TypeError(f"The array for `{self.name}` should hold real numbers, got dtype {value.dtype}")
        if isinstance(value, torch.Tensor) and value.is_complex():
            raise TypeError(f"The tensor for `{self.name}` should hold real numbers, got dtype {value.dtype}")
        if isinstance(value, torch.Tensor) and value.layout is not torch.strided:
            raise TypeError(f"The tensor for `{self.name}` should be dense, got the layout {value.layout}")
        if isinstance(value, torch.Tensor) and not value.is_leaf:
            raise ValueError(
                f"The tensor for `{self.name}` is the result of a computation ({value.grad_fn}), so it cannot be "
                f"trained; give `tensor.detach()` or an nn.Parameter, got a tensor of shape {tuple(value.shape)}"
            )

    def specify(self, instance: Any, value: Any) -> None:
        value = self.clean(value, instance)
        values = vars(instance)
        values.setdefault("_specifications", {})[self.name] = value
        if values.get("_built_for", "") is None:  # else nn.Module is not ready, or the variable is where it belongs
            values.pop(self.name, None)
            values["_parameters" if self.trainable else "_buffers"].setdefault(self.name, None)

    def specification(self, instance: Any) -> Any:
        values = vars(instance)
        specifications = values.get("_specifications", {})
        if self.name in specifications:
            return specifications[self.name]
        if self.name in values:  # assigned as a plain attribute, as NeuPy's own layers do
            return self.clean(values[self.name], instance)
        if self.default is not None:
            return self.clean(self.default, instance)
        return values.get("_parameters", {}).get(self.name)  # a Parameter, which nn.Module has registered


class ScalarVariableProperty(BaseProperty):
    """A number, or a tensor that holds one, such as a learning rate that changes."""

    expected_type = (torch.Tensor, *NUMBER_TYPES)

    def normalise(self, value: Any) -> Any:
        return plain_number(value)

    def validate(self, value: Any) -> None:
        super().validate(value)
        if isinstance(value, torch.Tensor) and value.numel() != 1:
            raise ValueError(f"The tensor for `{self.name}` should hold one number, got the shape {tuple(value.shape)}")
