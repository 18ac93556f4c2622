"""torchinfo's summary of networks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.networks import CASES, Case, every_case

pytest.importorskip("torchinfo", reason="torchinfo is not installed")


def summarise(case: Case, device: str = "cpu", **options: Any) -> Any:
    from torchinfo import summary

    network = case.network().to(device)
    return network, summary(network, input_data=list(case.inputs(device=device)), device=device, verbose=0, **options)


@every_case
def test_the_numbers_are_those_of_the_network(case, device):
    network, found = summarise(case, device)
    assert found.total_params == found.trainable_params == sum(parameter.numel() for parameter in network.parameters())
    whole, *layers = found.summary_list
    assert [row.var_name for row in layers] == [layer.name for layer in network]
    assert [row.class_name for row in layers] == [type(layer).__name__ for layer in network]
    shapes = [tuple(shape[1:]) for shape in network.output_shapes_per_layer.values()]
    assert [tuple(row.output_size[1:]) for row in layers] == shapes
    assert all(row.output_size[0] == 4 for row in (whole, *layers))
    assert [row.num_params for row in layers] == [sum(p.numel() for p in layer.parameters()) for layer in network]
    assert network.training


def test_multiplications_of_dense_layers_are_counted():
    _, found = summarise(CASES["dense"])
    assert found.total_mult_adds == 4 * (6 * 10 + 10 + 10 * 3 + 3)


def test_multiplications_of_convolutions_are_counted_as_if_the_channels_came_first():
    """By torchinfo, which knows no other order: columns and channels of the output stand for rows and columns."""
    _, found = summarise(CASES["convolution"])
    (row,) = [row for row in found.summary_list if row.var_name == "first"]
    assert row.macs == 4 * (3 * 3 * 3 * 4) * 9 * 4 != 4 * (3 * 3 * 3 * 4) * 8 * 9
