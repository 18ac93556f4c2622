"""Weights that torchvision's models have, for the networks of the same names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from torchneupy.exceptions import ParameterLoaderError
from torchneupy.layers import LayerGraph

__all__ = ["load_torchvision"]

#: Name of a layer that only one of the networks has, to what keeps its numbers from being those of torchvision's model.
DIFFERENCES = {
    "conv1_1": None,  # VGG
    "bn_conv1": (
        "ResNet-50: torchvision pads the first convolution and the pooling by 3 and 1 on both sides, and puts strides "
        "into the 3x3 convolutions; here they are in the 1x1 convolutions before them, and TensorFlow's padding puts "
        "the odd element at the bottom and right"
    ),
    "fire2/squeeze1x1": (
        "SqueezeNet: torchvision's pools are all 3x3 and round sizes up; here two are 2x2 and none rounds up; and it "
        "has a rectifier before the last pool"
    ),
}

#: torchvision's epsilon of batch normalisation, to which the stored deviations here are made.
EPSILON = 1e-5

#: Height and width of the images that VGG's first dense layer gets.
SIDE = 7


def load_torchvision(
    network: LayerGraph, state_dict: Mapping[str, torch.Tensor], approximate: bool = False
) -> LayerGraph:
    """Give a network the weights of torchvision's model.

    ``vgg16`` and ``vgg19`` then compute what torchvision's ``vgg16`` and ``vgg19`` do, followed by a Softmax layer.
    ``resnet50`` and ``squeezenet`` (torchvision's ``squeezenet1_0``) have variables of the same shapes, but are not
    quite the same functions: their weights have to be trained further. torchvision's weights want images of
    ``(batch, height, width, 3)``, red first, as its documentation says of their normalisation.

    Parameters
    ----------
    network : LayerGraph
        Made by :func:`vgg16`, :func:`vgg19`, :func:`resnet50` or :func:`squeezenet`.
    state_dict : mapping
        torchvision's names to tensors.
    approximate : bool
        Whether to load weights of a model that is not quite the same function. Defaults to ``False``.

    Returns
    -------
    LayerGraph
        The network.

    Raises
    ------
    ValueError
        If the network is none of those, or not the same function as torchvision's model.
    ParameterLoaderError
        If a tensor is missing, left over, or of another shape; no variable has changed then.

    Examples
    --------
    ::

        network = architectures.vgg16()
        weights = torchvision.models.VGG16_Weights.DEFAULT.get_state_dict()
        architectures.load_torchvision(network, weights)
    """
    names = {layer.name for layer in network}
    marks = [mark for mark in DIFFERENCES if mark in names]
    if len(marks) != 1:
        raise ValueError(f"Expected a network made by vgg16, vgg19, resnet50 or squeezenet, got {network}")
    difference = DIFFERENCES[marks[0]]
    if difference is not None and not approximate:
        raise ValueError(
            f"The network is not the same function as torchvision's. {difference}. To load its weights "
            f"all the same and train further, pass approximate=True"
        )
    variables = {(layer.name, name): variable for (layer, name), variable in network.variables.items()}
    found = dict(converted(state_dict))
    differences = sorted(f"{layer}/{name}" for layer, name in variables.keys() ^ found.keys()) + [
        f"{layer}/{name} has shape {tuple(variables[layer, name].shape)}, got {tuple(value.shape)}"
        for (layer, name), value in found.items()
        if (layer, name) in variables and variables[layer, name].shape != value.shape
    ]
    if differences:
        raise ParameterLoaderError(
            f"The weights are not those of this network. Missing, left over or of another shape: "
            f"{', '.join(differences)}. Network: {network}"
        )
    with torch.no_grad():
        for key, variable in variables.items():
            variable.copy_(found[key])
    return network


def converted(state_dict: Mapping[str, torch.Tensor]) -> Iterator[tuple[tuple[str, str], torch.Tensor]]:
    """NeuPy's names of layer and variable, and the value in NeuPy's layout."""
    names = layer_names(state_dict)
    for key, value in state_dict.items():
        module, _, kind = key.rpartition(".")
        layer = names.get(module, key)
        if kind == "num_batches_tracked":
            continue
        if value.ndim == 4:
            yield (layer, kind), value.permute(2, 3, 1, 0)
        elif value.ndim == 2 and layer == "dense_1":
            # Its inputs are an image, of which torchvision flattens the channels first.
            images = value.reshape(value.shape[0], -1, SIDE, SIDE)
            yield (layer, kind), images.permute(2, 3, 1, 0).reshape(-1, value.shape[0])
        elif value.ndim == 2:
            yield (layer, kind), value.T
        elif layer.startswith("bn"):
            name = {"weight": "gamma", "bias": "beta", "running_var": "running_inv_std"}.get(kind, kind)
            yield (layer, name), (torch.rsqrt(value + EPSILON) if kind == "running_var" else value)[None, None, None]
        else:
            yield (layer, kind), value


def layer_names(state_dict: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Torchvision's names of modules to those of layers here."""
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key in state_dict))
    if "classifier.6" in modules:
        return vgg_names(modules)
    return {module: resnet_name(module) if "fc" in modules else squeezenet_name(module) for module in modules}


def vgg_names(modules: list[str]) -> dict[str, str]:
    """Convolutions are counted within their blocks, between which a pool leaves a gap of one more."""
    names, block, index, last = (
        {"classifier.0": "dense_1", "classifier.3": "dense_2", "classifier.6": "dense_3"},
        1,
        0,
        -2,
    )
    for module in modules:
        if module.startswith("features."):
            place = int(module.removeprefix("features."))
            block, index = (block + 1, 1) if place == last + 3 else (block, index + 1)
            names[module], last = f"conv{block}_{index}", place
    return names


def resnet_name(module: str) -> str:
    found = re.fullmatch(r"layer(\d)\.(\d)\.(conv|bn|downsample\.)(\d)", module)
    if found is None:
        return {"conv1": "conv1", "bn1": "bn_conv1", "fc": "fc1000"}.get(module, module)
    stage, block, kind, number = found.groups()
    if kind == "downsample.":
        prefix, branch = ("res", "bn")[int(number) != 0], "1"
    else:
        prefix, branch = {"conv": "res", "bn": "bn"}[kind], f"2{'abc'[int(number) - 1]}"
    return f"{prefix}{int(stage) + 1}{'abcdef'[int(block)]}_branch{branch}"


def squeezenet_name(module: str) -> str:
    fires = {place: number for number, place in enumerate((3, 4, 5, 7, 8, 9, 10, 12), start=2)}
    found: Any = re.fullmatch(r"features\.(\d+)\.(squeeze|expand1x1|expand3x3)", module)
    if found is None:
        return {"features.0": "conv1", "classifier.1": "conv10"}.get(module, module)
    part = {"squeeze": "squeeze1x1"}.get(found[2], found[2])
    return f"fire{fires.get(int(found[1]))}/{part}"
