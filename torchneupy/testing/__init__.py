"""Property-based tests of layers and networks: what hypothesis can draw, and what can be checked of it.

``shapes``, ``tensors``, ``layers``, ``networks`` and ``inputs_for`` are strategies; ``check_layer`` asks of a layer of
your own all that holds for those of the library. The extra ``testing`` installs what this needs.

>>> from hypothesis import given, strategies as st
>>> from torchneupy.testing import inputs_for, networks
>>> @given(networks(max_layers=4), st.data())
... def test_declared_shapes_come_out(network, data):
...     x, = data.draw(inputs_for(network))
...     assert network(x).shape == network.get_output_shape(x.shape)
>>> test_declared_shapes_come_out()

Once this module is imported, hypothesis seeds torch's generators, for the CPU and for CUDA, before each example, as it
does with those of ``random`` and ``numpy``.
"""

from __future__ import annotations

try:
    from torchneupy.testing.catalogue import register_layer, unregister_layer
    from torchneupy.testing.checks import check_layer, check_network
    from torchneupy.testing.equivalence import assert_equivalent
    from torchneupy.testing.inputs import inputs_for
    from torchneupy.testing.layers import layers
    from torchneupy.testing.networks import networks
    from torchneupy.testing.shapes import shapes
    from torchneupy.testing.tensors import tensors
    from torchneupy.testing.types import register_types
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "hypothesis":
        raise
    raise ImportError('torchneupy.testing needs hypothesis: pip install "torchneupy[testing]"') from error

register_types()

__all__ = [
    "assert_equivalent",
    "check_layer",
    "check_network",
    "inputs_for",
    "layers",
    "networks",
    "register_layer",
    "shapes",
    "tensors",
    "unregister_layer",
]
