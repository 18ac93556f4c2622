"""Against what NeuPy 0.8.2's architectures are: recorded.json has their layers, outputs/ what they compute."""

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch

from torchneupy import architectures, layers
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import Elementwise, Identity, Input, Relu, Sigmoid, Softmax, join

HERE = Path(__file__).parent
RECORDED: dict[str, Any] = json.loads((HERE / "recorded.json").read_text())
VARIANTS = RECORDED.pop("resnet50_variants")
NAMES = {**{name: getattr(layers, name) for name in layers.__all__}, "np": np}
NAMES |= {name: getattr(architectures, name) for name in architectures.__all__}


def build(source: str) -> Any:
    return eval(source, dict(NAMES))


def listed(shape: Any) -> Any:
    return None if shape.ndims is None else shape.as_list()


@pytest.mark.parametrize("name", RECORDED)
def test_layers_and_variables_are_those_of_neupy(name: str) -> None:
    recorded = RECORDED[name]
    with torch.device("meta"):
        network = build(recorded["source"])
    assert repr(network) == recorded["repr"]
    shapes = network.output_shapes_per_layer
    sources = network.backward_graph
    for layer, expected in zip(network, recorded["layers"], strict=True):
        described = {"name": layer.name, "class": type(layer).__name__, "repr": repr(layer)}
        assert described == {key: expected[key] for key in described}
        assert [source.name for source in sources[layer]] == expected["inputs"]
        assert listed(shapes[layer]) == expected["output_shape"]
        found = [
            [key, list(value.shape), "trainable" if value.requires_grad else "not trainable"]
            for key, value in layer.variables.items()
        ]
        assert found == expected["variables"]
    assert [f"{layer.name}/{key}" for layer, key in network.variables] == recorded["variables_order"]
    assert sum(value.numel() for value in network.variables.values()) == recorded["n_parameters"]
    assert sum(value.numel() for value in network.parameters()) == recorded["n_trainable"]
    assert network.is_sequential() is recorded["is_sequential"]
    assert listed(network.input_shape) == recorded["input_shape"]
    assert listed(network.output_shape) == recorded["output_shape"]


@pytest.mark.parametrize("variant", VARIANTS, ids=[str(variant["arguments"]) for variant in VARIANTS])
def test_variants_of_resnet(variant: Any) -> None:
    with torch.device("meta"):
        plain, network = architectures.resnet50(), architectures.resnet50(**variant["arguments"])
    assert repr(network) == variant["repr"]
    assert sum(value.numel() for value in network.variables.values()) == variant["n_parameters"]
    shapes = {layer.name: listed(shape)[1:] for layer, shape in network.output_shapes_per_layer.items()}
    for name, shape in variant["output_shape_of_convolutions"].items():
        assert shapes[name] == shape
    different = variant["options_that_differ_from_default"]
    for layer in network:
        name = layer.name
        if type(layer).__name__ == "Convolution":
            usual, found = plain.layer(name).get_params(), layer.get_params()
            changed = {key: list(found[key]) for key in ("stride", "dilation") if found[key] != usual[key]}
            assert changed == different.get(name, {})


def value_of(layer: str, variable: str, shape: Any) -> Any:
    """What the recorded network had in a variable."""
    normal = np.random.RandomState(crc32(f"{layer}/{variable}".encode())).standard_normal(shape)
    if variable == "running_inv_std":
        return 0.7 * np.exp(0.1 * normal)
    if variable == "gamma":
        return 1 + 0.1 * normal
    if variable in ("bias", "beta", "running_mean"):
        return 0.1 * normal
    return normal * np.sqrt(2 / np.prod(shape[:-1]))


def recorded_outputs() -> list[Any]:
    """The VGGs, of half a gigabyte each, come last; one of them is left to a full run."""
    large = ["vgg16", "vgg19"]
    found = sorted(path.stem for path in (HERE / "outputs").glob("*.npz"))
    marks = {"vgg16": [pytest.mark.full], "vgg19": [pytest.mark.full]}
    return [pytest.param(n, marks=marks.get(n, [])) for n in [n for n in found if n not in large] + large]


@pytest.mark.parametrize("name", recorded_outputs())
def test_outputs_are_those_of_neupy(name: str) -> None:
    with np.load(HERE / "outputs" / f"{name}.npz") as data:
        record = dict(data)
    network = build(str(record["source"])).eval()
    with torch.no_grad():
        for (layer, key), variable in network.variables.items():
            variable.copy_(torch.as_tensor(value_of(layer.name, key, tuple(variable.shape)).astype(np.float32)))
        seed = crc32(f"{record['input_name']!s}/input".encode())
        x = np.random.RandomState(seed).uniform(-1, 1, tuple(record["input_shape"]))
        output = network(torch.as_tensor(x, dtype=torch.float32)).numpy()
    assert output.shape == tuple(record["output_shape"])
    found = output if output.size <= 4096 else output[..., :16]
    np.testing.assert_allclose(found, record["output"], rtol=0, atol=1e-3 * np.abs(record["output"]).max())


def test_images_of_other_sizes() -> None:
    with torch.device("meta"):
        network = architectures.resnet50((None, None, 3), include_global_pool=False)
        assert network.output_shape == (None, None, None, 2048)
        assert network(torch.empty(2, 64, 96, 3)).shape == (2, 2, 3, 2048)


@pytest.mark.parametrize("ratio", [5, 0, "32", None])
def test_ratios_that_there_are_not(ratio: Any) -> None:
    with pytest.raises(ValueError, match=f"in_out_ratio values: 4, 8, 16, 32, got {ratio!r}"):
        architectures.resnet50(in_out_ratio=ratio)


# Mixture of experts


def expert(n_inputs: Any = 10, n_outputs: int = 5) -> Any:
    return join(Input(n_inputs), Relu(3), Sigmoid(n_outputs))


def test_a_mixture_is_the_sum_of_its_weighted_experts() -> None:
    experts, gate = [expert(), expert(None), join(Relu(5, name="last"))], Softmax(3)
    experts[2] = Input(10) >> experts[2]
    network = architectures.mixture_of_experts(experts, gate)
    x = torch.randn(4, 10)
    shares = gate(x)
    expected = sum(shares[:, index, None] * one(x) for index, one in enumerate(experts))
    torch.testing.assert_close(network(x), expected)
    assert network.input_shape == (None, 10)


@pytest.mark.parametrize(
    "networks, error, message",
    [
        ([], ValueError, "list of at least one"),
        (expert(), ValueError, r"list of at least one, got \(\?, 10\)"),
        ([expert(), 5], TypeError, "`int` instance at #1"),
        ([expert(), expert(9)], ValueError, r"input shapes. Shapes: \(\?, 10\), \(\?, 9\)"),
        ([expert(), expert(10, 4)], ValueError, r"output shapes. Shapes: \(\?, 5\), \(\?, 4\)"),
        ([Input((3, 3, 1)) >> Relu()], ValueError, r"#0 .* inputs of shape \(\?, 3, 3, 1\)"),
        ([expert(), (Input(3) | Input(3)) >> Elementwise()], ValueError, "#1 .*more than one input layer"),
        ([Input(3) >> (Relu(2) | Relu(2))], ValueError, "#0 .*more than one output layer"),
        ([expert(None)], ValueError, "number of input features is unknown"),
        ([Relu(5)], ValueError, "#0 .* inputs of shape <unknown>"),
    ],
)
def test_networks_that_are_no_experts(networks: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        architectures.mixture_of_experts(networks)


@pytest.mark.parametrize("gate", [Input(10) >> Softmax(1), 5, "softmax"], ids=str)
def test_gates_that_are_no_layers(gate: Any) -> None:
    with pytest.raises(ValueError, match="Invalid type for gating layer.*" + type(gate).__name__):
        architectures.mixture_of_experts([expert()], gate)


def test_a_gate_of_another_width() -> None:
    with pytest.raises(LayerConnectionError):
        architectures.mixture_of_experts([expert(), expert()], Softmax(3))


def test_identity_is_a_gate() -> None:
    network = architectures.mixture_of_experts([expert(2), expert(2)], Identity())
    x = torch.randn(3, 2)
    assert network(x).shape == (3, 5)
