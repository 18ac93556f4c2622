"""Well-known networks, with NeuPy's layer names, so that weight files made for them load.

Their variables are drawn at random; ``torchneupy.storage`` loads trained ones.
"""

from __future__ import annotations

from torchneupy.architectures.mixture_of_experts import mixture_of_experts
from torchneupy.architectures.resnet import resnet50
from torchneupy.architectures.squeezenet import squeezenet
from torchneupy.architectures.torchvision import load_torchvision
from torchneupy.architectures.vgg import vgg16, vgg19

__all__ = ["load_torchvision", "mixture_of_experts", "resnet50", "squeezenet", "vgg16", "vgg19"]
