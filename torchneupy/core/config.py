"""Classes that collect the options they declare.

>>> from torchneupy.core.properties import IntProperty
>>> class Window(Configurable):
...     size = IntProperty(default=3, minval=1)
>>> Window.options
{'size': Option(class_name='Window', value=IntProperty(name="size"))}
>>> Window(size=5.0).get_params()
{'size': 5}
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

from torchneupy.core.declarations import Declaration, WithdrawProperty

__all__ = ["BaseConfigurable", "Configurable", "Option"]


class Option(NamedTuple):
    """A declared option and the name of the class that declares it."""

    class_name: str
    value: Any


class BaseConfigurable:
    """Collects declared options into ``options``: parents' first, then in the order of declaration."""

    options: ClassVar[dict[str, Option]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        options: dict[str, Option] = {}
        for parent in reversed(cls.__bases__):
            options.update(getattr(parent, "options", {}))
        for name, value in vars(cls).items():
            if isinstance(value, Declaration):
                options[name] = Option(cls.__name__, value)
            elif isinstance(value, WithdrawProperty):
                options.pop(name, None)
        cls.options = options

    def get_params(self, deep: bool = False) -> dict[str, Any]:
        """The options' values, as the constructor takes them.

        Parameters
        ----------
        deep : bool
            Taken for the sake of scikit-learn, and without effect.
        """
        return {name: option.value.specification(self) for name, option in self.options.items()}

    def set_params(self, **params: Any) -> Self:
        """Assign options.

        Every value is checked before the first one is assigned.

        Raises
        ------
        ValueError
            If there is no such option, or a value is out of its range.
        TypeError
            If a value is of a wrong type.
        """
        self.check_names(params)
        for name, value in params.items():
            self.options[name].value.clean(value, self)
        for name, value in params.items():
            self.options[name].value.specify(self, value)
        return self

    def check_names(self, names: Any) -> None:
        """Raise ValueError if there is a name that is no option."""
        unknown = [name for name in names if name not in self.options]
        if unknown:
            raise ValueError(
                f"The `{type(self).__name__}` object contains invalid properties: {', '.join(unknown)}. "
                f"Available: {', '.join(self.options) or 'none'}"
            )


class Configurable(BaseConfigurable):
    """A class whose constructor takes the declared options by name.

    Raises
    ------
    ValueError
        If an option is unknown, out of range, or required and missing.
    TypeError
        If a value is of a wrong type.
    """

    def __init__(self, **options: Any) -> None:
        self.check_names(options)
        for name, option in self.options.items():
            if option.value.required and name not in options:
                raise ValueError(f"Option `{name}` is required. (`{type(self).__name__}`, given: {sorted(options)})")
        for name, value in options.items():
            self.options[name].value.specify(self, value)
