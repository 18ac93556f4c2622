"""torchvision.json has the names, shapes and types of the variables of torchvision 0.29.1's models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from torchneupy import architectures
from torchneupy.architectures.torchvision import load_torchvision
from torchneupy.exceptions import ParameterLoaderError
from torchneupy.layers import Input, Relu

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("torchvision.json").read_text())
MODELS = {"vgg16": "vgg16", "vgg19": "vgg19", "resnet50": "resnet50", "squeezenet1_0": "squeezenet"}
every_model = pytest.mark.parametrize("model", MODELS)


def weights(model: str, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Tensors of the recorded shapes; each value is different from others of the same tensor."""
    return {
        name: torch.arange(int(np.prod(shape)), dtype=torch.float32, device=device).view(shape) % 1009 + 1
        for name, shape, _ in RECORDED[model]
    }


def make(model: str, device: str = "cpu") -> Any:
    with torch.device(device):
        return getattr(architectures, MODELS[model])()


@every_model
def test_every_variable_gets_its_tensor(model: str) -> None:
    state_dict = weights(model, "meta")
    network = load_torchvision(make(model, "meta"), state_dict, approximate=True)
    n_values = sum(v.numel() for name, v in state_dict.items() if not name.endswith("num_batches_tracked"))
    assert sum(v.numel() for v in network.variables.values()) == n_values


def test_layouts_of_resnet() -> None:
    state_dict = weights("resnet50")
    network = load_torchvision(make("resnet50"), state_dict, approximate=True)
    values = {(layer.name, name): value.detach() for (layer, name), value in network.variables.items()}
    for layer, module in {
        "conv1": "conv1",
        "res2a_branch2a": "layer1.0.conv1",
        "res2a_branch1": "layer1.0.downsample.0",
        "res4f_branch2b": "layer3.5.conv2",
        "res5c_branch2c": "layer4.2.conv3",
    }.items():
        kernel = state_dict[f"{module}.weight"]
        found = values[layer, "weight"]
        assert all(found[0, -1, i, o] == kernel[o, i, 0, -1] for i, o in [(0, 0), (2, 1), (1, 5)])
        assert found.shape == tuple(kernel.shape[axis] for axis in (2, 3, 1, 0))
    normalisations = {"bn_conv1": "bn1", "bn2a_branch1": "layer1.0.downsample.1", "bn5c_branch2c": "layer4.2.bn3"}
    for layer, module in normalisations.items():
        assert_close(values[layer, "gamma"].flatten(), state_dict[f"{module}.weight"])
        assert_close(values[layer, "beta"].flatten(), state_dict[f"{module}.bias"])
        assert_close(values[layer, "running_mean"].flatten(), state_dict[f"{module}.running_mean"])
        deviation = (state_dict[f"{module}.running_var"].double() + 1e-5).sqrt()
        assert_close(values[layer, "running_inv_std"].flatten(), (1 / deviation).float())
    assert_close(values["fc1000", "weight"], state_dict["fc.weight"].T)


@pytest.mark.full
def test_vgg_is_the_same_function_from_the_last_pool_on() -> None:
    """Torchvision flattens channels first, which decides where the weights of the first dense layer belong."""
    generator = torch.Generator().manual_seed(0)
    state_dict = {n: torch.randn(shape, generator=generator) / 100 for n, shape, _ in RECORDED["vgg16"]}
    network = load_torchvision(make("vgg16"), state_dict).eval()
    layers = [nn.Linear(25088, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    for layer, module in zip(layers[::2], ("classifier.0", "classifier.3", "classifier.6"), strict=True):
        layer.load_state_dict({name: state_dict[f"{module}.{name}"] for name in ("weight", "bias")})
    images = torch.randn(2, 512, 7, 7, generator=generator)
    expected = nn.Sequential(nn.Flatten(), *layers, nn.Softmax(dim=1))(images)
    start = next(layer for layer in network if type(layer).__name__ == "Reshape")
    classifier = Input((7, 7, 512)) >> network.start(start)
    assert_close(classifier.eval()(images.permute(0, 2, 3, 1)), expected)


def test_convolutions_of_vgg_come_in_order() -> None:
    network = load_torchvision(make("vgg19", "meta"), weights("vgg19", "meta"))
    assert network.layer("conv3_4").weight.shape == (3, 3, 256, 256)
    state_dict = {n: torch.full(shape, float(i)) for i, (n, shape, _) in enumerate(RECORDED["squeezenet1_0"])}
    squeezenet = load_torchvision(make("squeezenet1_0"), state_dict, approximate=True)
    found = [value.flatten()[0].item() for value in squeezenet.variables.values()]
    assert found == list(range(len(state_dict)))


@pytest.mark.parametrize("model", ["resnet50", "squeezenet1_0"])
def test_what_is_not_the_same_function_has_to_be_asked_for(model: str) -> None:
    network = make(model, "meta")
    with pytest.raises(ValueError, match=r"not the same function as torchvision's.*approximate=True"):
        load_torchvision(network, weights(model, "meta"))


@every_model
def test_nothing_changes_if_a_tensor_is_missing_left_over_or_of_another_shape(model: str) -> None:
    network = make(model, "meta")
    good = weights(model, "meta")
    first = next(iter(good))
    for bad, message in (
        ({name: value for name, value in good.items() if name != first}, "conv1.*/weight"),
        ({**good, "extra.weight": torch.empty(3, device="meta")}, "extra.weight"),
        ({**good, first: torch.empty(3, 3, 3, 3, device="meta")}, r"has shape .*, got \(3, 3, 3, 3\)"),
    ):
        with pytest.raises(ParameterLoaderError, match=message):
            load_torchvision(network, bad, approximate=True)


def test_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"made by vgg16, vgg19, resnet50 or squeezenet, got .*2 layers"):
        load_torchvision(Input(3) >> Relu(2), {})
