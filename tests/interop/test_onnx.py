"""ONNX by ``torch.onnx.export(dynamo=True)``: onnxruntime computes what the network does, for any batch.

The network that is exported is on the device of the test; onnxruntime computes on the CPU.
"""

from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.contract.cases import CASES as LAYERS
from tests.contract.cases import VARIANTS
from tests.contract.entry import Variant
from tests.contract.example import Example
from tests.interop.networks import every_case, make_convolution
from torchneupy.layers import GRU, LSTM, Dropout, Identity, Input, Relu, join, parallel

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript, with which torch exports, is not installed")

pytestmark = pytest.mark.filterwarnings(
    # The exporter itself uses what torch and onnxscript have deprecated.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    # What it says of its own loop for recurrent layers, and of a batch that several inputs share.
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
    "ignore:# The axis name. batch will not be used:UserWarning",
)


def export(network: Any, inputs: tuple[torch.Tensor, ...], **options: Any) -> Any:
    """A session of onnxruntime."""
    import onnxruntime

    program = torch.onnx.export(
        network, inputs, dynamo=True, dynamic_shapes=network.dynamic_shapes(), verbose=False, **options
    )
    assert program is not None
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: Any, inputs: tuple[torch.Tensor, ...]) -> Any:
    """What comes out, as the network has it: a tuple if there are several outputs."""
    names = [each.name for each in session.get_inputs()]
    outputs = session.run(None, {name: x.cpu().numpy() for name, x in zip(names, inputs, strict=True)})
    tensors = tuple(torch.from_numpy(np.asarray(output)) for output in outputs)
    return tensors if len(tensors) > 1 else tensors[0]


def joined(parts: Iterable[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    return tuple(chain.from_iterable(parts))


def draw(example: Example, batch: int, device: str) -> tuple[torch.Tensor, ...]:
    return tuple(x.to(device) for x in example.draw(batch))


def told(variant: Variant, message: str) -> str:
    return f"{variant}: {message}"


def agrees(found: Any, network: Any, inputs: tuple[torch.Tensor, ...], **options: Any) -> None:
    with torch.no_grad():
        assert_close(found, network(*inputs), rtol=1e-4, atol=1e-5, check_device=False, **options)


@every_case
def test_onnxruntime_computes_what_the_network_does(case, device):
    network = case.network().eval().to(device)
    session = export(network, case.inputs(device=device))
    assert all(each.shape[0] == "batch" for each in session.get_inputs())
    for batch in (1, 3, 8):
        inputs = case.inputs(batch, device=device)
        agrees(run(session, inputs), network, inputs)


def test_every_layer_is_exported(device):
    """All side by side in one program, because each one takes its time; in the full run each alone, in every way."""
    examples = [Example(case.variants[0]).to(device) for case in LAYERS]
    networks = [example.network.eval() for example in examples]
    session = export(parallel(*networks).eval(), joined(draw(example, 11, device) for example in examples))
    for batch in (1, 2, 13):
        inputs = [draw(example, batch, device) for example in examples]
        outputs = run(session, joined(inputs))
        for example, network, values, output in zip(examples, networks, inputs, outputs, strict=True):
            agrees(output, network, values, msg=partial(told, example.variant))


@pytest.mark.full
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_of_every_layer_is_exported(variant: Variant, device: str):
    example = Example(variant).to(device)
    network = example.network.eval()
    session = export(network, draw(example, 11, device))
    for batch in (1, 2, 13):
        inputs = draw(example, batch, device)
        agrees(run(session, inputs), network, inputs)


def test_height_and_width_are_left_open(device):
    network = make_convolution((None, None, 3)).eval().to(device)
    session = export(network, (torch.ones(2, 8, 9, 3, device=device),))
    for shape in [(1, 8, 9, 3), (3, 5, 12, 3)]:
        images = torch.rand(shape, device=device)
        agrees(run(session, (images,)), network, (images,))


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_the_number_of_steps_is_left_open(layer, device):
    """Where torch.export alone fixes it, the exporter has a loop."""
    network = join(Input((None, 5)), layer(6)).eval().to(device)
    session = export(network, (torch.ones(2, 7, 5, device=device),))
    for steps in (7, 1, 12):
        x = torch.rand(3, steps, 5, device=device)
        agrees(run(session, (x,)), network, (x,))


def test_inputs_and_outputs_have_the_names_that_they_are_given():
    network = join(Input(3), Relu(4)).eval()
    session = export(network, (torch.ones(2, 3),), input_names=["pixels"], output_names=["classes"])
    assert [each.name for each in session.get_inputs()] == ["pixels"]
    assert [each.name for each in session.get_outputs()] == ["classes"]


def test_dropout_is_gone_from_what_was_exported_in_evaluation(device):
    network = join(Input(3), Dropout(0.5), Identity()).eval().to(device)
    x = torch.ones(100, 3, device=device)
    assert_close(run(export(network, (x,)), (x,)), x.cpu())
