"""README.rst for those who come from NeuPy: what it says to write runs, and what it says is not there is not there.

NeuPy itself is not needed: ``NAMES`` and ``MEMBERS`` were recorded from NeuPy 0.8.2. Whether that recording is whole,
and what NeuPy does with the left column of the table, cannot be found out here; nor what NeuPy 0.6 and 0.7 stored,
which was read from their source.
"""

from __future__ import annotations

import ast
import importlib
import json
import math
import pickle
import re
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import torchneupy.demo
from tests.readme_commands import README
from torchneupy import architectures, init, layers, storage
from torchneupy.layers import Convolution, Input, LayerGraph, Relu, Softmax

TEXT = README.read_text(encoding="utf-8")

#: The public names of NeuPy 0.8.2: what a star import of the module gives.
NAMES = {
    "neupy.layers": """
        AveragePooling AvgPool BaseGraph BaseLayer BatchNorm BN Concatenate Conv Convolution Deconvolution
        DropBlock Dropout Elementwise Elu Embedding GatedAverage GaussianNoise GlobalPool GlobalPooling GN
        GroupNorm GRU HardSigmoid Identity Input join LayerGraph LeakyRelu Linear LocalResponseNorm LSTM MaxPool
        MaxPooling parallel PRelu Relu repeat Reshape Sigmoid Softmax Softplus Tanh Transpose Upscale
    """,
    "neupy.init": """
        classname Constant HeNormal HeUniform identify_fans Initializer InitializerWithGain Normal Orthogonal
        set_numpy_seed Uniform XavierNormal XavierUniform
    """,
    "neupy.core.properties": """
        ArrayProperty BaseProperty BoundedProperty ChoiceProperty FunctionWithOptionsProperty IntProperty
        NumberProperty ParameterProperty ProperFractionProperty Property ScalarVariableProperty
        TypedListProperty WithdrawProperty
    """,
    "neupy.core.config": """
        BaseConfigurable ConfigABCMeta ConfigMeta Configurable ConfigurableABC DumpableObject ExtractParameters
        initialize_with_kwargs Option
    """,
    "neupy.exceptions": """
        InvalidConnection LayerConnectionError NotTrained PropagationError StopTraining
        WeightInitializationError
    """,
    "neupy.storage": """
        convert_numpy_array_to_list_recursively extract_network InvalidFormat load load_dict load_dict_by_names
        load_dict_sequentially load_hdf5 load_json load_layer_parameter load_pickle ParameterLoaderError save
        save_dict save_hdf5 save_json save_pickle validate_data_structure
    """,
    "neupy.architectures": """
        mixture_of_experts resnet50 squeezenet vgg16 vgg19
    """,
    "neupy.algorithms": """
        Adadelta Adagrad Adam Adamax ART1 BaseOptimizer CMAC ConjugateGradient define_regularizer DiscreteBAM
        DiscreteHopfieldNetwork exponential_decay GradientDescent GRNN GrowingNeuralGas HebbRule Hessian
        HessianDiagonal Instar IRPROPPlus Kohonen l1 l2 LevenbergMarquardt LVQ LVQ2 LVQ21 LVQ3 maxnorm Momentum
        NeuralGasGraph NeuronNode Oja PNN polynomial_decay QuasiNewton RBM RMSProp RPROP SOFM step_decay
    """,
    "neupy.utils": """
        apply_batches as_tuple asfloat AttributeKeyDict class_method_name_scope count_minibatches count_samples
        create_variable dimshuffle dot flatten format_data function function_name_scope
        initialize_uninitialized_variables make_single_vector minibatches outer repeat reproducible
        setup_parameter_updates shape_to_tuple tensorflow_eval tensorflow_session
    """,
    "neupy.datasets": """
        is_valid_by_reber load_digits make_digits make_reber make_reber_classification
    """,
    "neupy.plots": """
        hinton saliency_map saliency_map_graph
    """,
}

#: Of its layers and networks: the public members that each class has of its own.
MEMBERS = {
    "AveragePooling": "pooling_type",
    "BaseGraph": """
        backward_graph events get_output_shape input_layers inputs output output_layers output_shape outputs
        targets training_outputs
    """,
    "BaseLayer": "create_variables define get_output_shape input_shape output_shape variable",
    "BatchNorm": "create_variables output",
    "Concatenate": "get_output_shape output",
    "Convolution": """
        create_variables expected_output_shape fail_if_shape_invalid get_output_shape output
        output_shape_per_dim
    """,
    "Deconvolution": "create_variables output output_shape_per_dim",
    "DropBlock": "get_output_shape output",
    "Dropout": "output",
    "Elementwise": "get_output_shape output",
    "Elu": "activation_function",
    "Embedding": "create_variables get_output_shape output",
    "GRU": "create_variables output",
    "GatedAverage": "fail_if_shape_invalid get_output_shape output",
    "GaussianNoise": "output",
    "GlobalPooling": "get_output_shape output",
    "GroupNorm": "create_variables get_output_shape output",
    "HardSigmoid": "activation_function",
    "Identity": "get_output_shape output",
    "Input": "get_output_shape input_shape output",
    "LSTM": "create_variables output",
    "LayerGraph": """
        clean_layer_references create_variables end get_output_shape get_params input_shape input_shapes
        is_sequential layer layer_names_only layers n_parameters output output_shape output_shapes_per_layer
        pass_through_the_layer predict preformat_inputs propagate_forward show slice start variables
    """,
    "LeakyRelu": "activation_function",
    "Linear": "activation_function create_variables get_output_shape output",
    "LocalResponseNorm": "get_output_shape output",
    "MaxPooling": "pooling_type",
    "PRelu": "activation_function create_variables get_output_shape",
    "Relu": "activation_function",
    "Reshape": "get_output_shape output",
    "Sigmoid": "activation_function",
    "Softmax": "activation_function",
    "Softplus": "activation_function",
    "Tanh": "activation_function",
    "Transpose": "fail_if_shape_invalid get_output_shape output",
    "Upscale": "fail_if_shape_invalid get_output_shape output",
}


def section(title: str, line: str = "-") -> str:
    """What stands below a title, up to the next one of the same kind or of a higher one."""
    pattern = rf"^{re.escape(title)}\n{line}+\n(.*?)(?=^[^\n]+\n(?:-+|{line}+)\n|\Z)"
    (found,) = re.findall(pattern, TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def literals(text: str) -> list[str]:
    return [" ".join(found.split()) for found in re.findall(r"``(.+?)``", text, re.DOTALL)]


def rows(table: str) -> list[list[str]]:
    """The rows of a list-table, as its cells; the first row is the head."""
    body = table.partition(".. list-table::")[2]
    body = re.split(r"\n(?=\S)", body, maxsplit=1)[0]
    found = re.split(r"^   \* - ", body, flags=re.MULTILINE)[1:]
    return [[" ".join(cell.split()) for cell in re.split(r"^     - ", row, flags=re.MULTILINE)] for row in found]


# What to write

HEAD, *TABLE = rows(section("What to write", "~"))

#: Of the right column, what is no code to run: operators and words, and what runs in other surroundings only.
NOT_RUN = {
    ">>": "an operator",
    "|": "an operator",
    "break": "belongs into a loop",
    "self.variable(value, name, shape)": "belongs into a layer: the examples of `Layers of your own`_ run it",
    'network.show("network.pdf")': "needs Graphviz: tests/layers/test_reports.py",
}
IS_THE_SAME = "the same"


def codes(left: str, right: str) -> list[str]:
    """What a row says to write here."""
    found = literals(left) if right.startswith(IS_THE_SAME) else []
    return [code for code in found + literals(right) if code not in NOT_RUN]


def surroundings() -> dict[str, Any]:
    """What the table takes for granted, and the names that its first rows import."""
    torch.manual_seed(0)
    network = Input(10) >> Relu(5) >> Softmax(3, name="out")
    names: dict[str, Any] = {name: getattr(layers, name) for name in layers.__all__}
    modules: dict[str, ModuleType] = {"architectures": architectures, "init": init, "storage": storage}
    return {
        **names,
        **modules,
        "network": network,
        "x": torch.rand(6, 10),
        "y": torch.eye(3)[[0, 1, 2, 0, 1, 2]],
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.1),
        "torch": torch,
        "functional": functional,
        "DataLoader": DataLoader,
        "TensorDataset": TensorDataset,
        "torchneupy": torchneupy,
    }


def value_of(code: str, names: dict[str, Any]) -> Any:
    try:
        expression = compile(code, code, "eval")
    except SyntaxError:
        exec(compile(code, code, "exec"), names)
        return None
    return eval(expression, names)


def test_the_table_is_found():
    assert HEAD == ["In NeuPy 0.8.2 you write", "Here you write"]
    assert len(TABLE) > 30 and {len(row) for row in TABLE} == {2}
    everything = " ".join(cell for row in TABLE for cell in row)
    assert all(f"``{code}``" in everything for code in NOT_RUN)


@pytest.mark.parametrize("left, right", [pytest.param(*row, id=row[0][:50].replace("`", "")) for row in TABLE])
def test_what_is_to_be_written_runs(left, right, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = surroundings()
    # The architectures are large: their variables need no memory there.
    with torch.device("meta" if "architectures." in left else "cpu"):
        for code in codes(left, right):
            value_of(code, names)


def test_names_of_the_left_column_are_those_of_neupy():
    found = []
    for left, _ in TABLE:
        for code in literals(left):
            found += re.findall(
                r"\b(algorithms|architectures|datasets|exceptions|init|plots|storage|utils)\.(\w+)", code
            )
    assert len(found) > 20
    for module, name in found:
        if (module, name) != ("storage", "load_pickle"):
            assert name in NAMES[f"neupy.{module}"].split(), f"{module}.{name}"


def code_of(left: str, number: int = 0) -> str:
    """What the row of a left side says to write."""
    (right,) = (row[1] for row in TABLE if left in row[0])
    return literals(right)[number]


def test_the_regulariser_counts_what_neupy_counts():
    """The squares of all that is trained, but of biases; ``weight_decay`` has the same gradient at the weights."""
    names = surroundings()
    names["network"] = layers.join(Input(10), Relu(5), layers.BatchNorm(), Softmax(3))
    weights = [value for (_, name), value in names["network"].variables.items() if name in ("weight", "gamma", "beta")]
    penalty = value_of(code_of("algorithms.l2"), names)
    torch.testing.assert_close(penalty, 0.01 * sum(weight.square().sum() for weight in weights))
    penalty.backward()
    decay = value_of(code_of("algorithms.l2", 1).partition("=")[2], names)
    for weight in weights:
        torch.testing.assert_close(weight.grad, decay * weight)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("exponential_decay", lambda step: 0.1 * 0.95 ** (step / 1000)),
        ("step_decay", lambda step: 0.1 / (1 + step / 100)),
    ],
)
def test_steps_decay_as_those_of_neupy(name, expected):
    names = surroundings()
    scheduler = value_of(code_of(f"algorithms.{name}"), names)
    for step in range(5):
        assert math.isclose(scheduler.get_last_lr()[0], expected(step))
        names["optimizer"].step()
        scheduler.step()


def test_losses_are_those_of_neupy():
    names = surroundings()
    x, y = names["network"].predict(names["x"]), names["y"].numpy()
    formulas = {
        'loss="mse"': np.square(x - y).mean(),
        'loss="binary_crossentropy"': -(y * np.log(x) + (1 - y) * np.log(1 - x)).mean(),
        'loss="categorical_crossentropy"': -(y * np.log(x)).sum(axis=-1).mean(),
    }
    for left, expected in formulas.items():
        assert math.isclose(value_of(code_of(left), names).item(), expected, rel_tol=1e-5)


# What is not there


def lists(text: str) -> list[list[str]]:
    """The items of a bullet list, as what they name."""
    return [literals(item) for item in re.findall(r"^- (.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)]


MISSING, MISSING_MEMBERS = map(lists, section("What is not there").split("Of layers and networks", 1))


def is_there(module: str, name: str) -> bool:
    """Whether torchneupy has a name of NeuPy's."""
    try:
        return hasattr(importlib.import_module(f"torchneupy{module.removeprefix('neupy')}"), name)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("torchneupy"):
            raise
        return False


def test_modules_are_listed_once_and_in_order():
    modules = [module for module, *_ in MISSING]
    assert modules == sorted(set(modules)) and set(modules) <= set(NAMES)
    for module in ("neupy.architectures", "neupy.core.properties", "neupy.exceptions"):
        assert module not in modules


@pytest.mark.parametrize("module", NAMES)
def test_what_is_listed_is_not_there_and_all_else_is(module):
    listed = next((names for name, *names in MISSING if name == module), [])
    assert listed == [name for name in NAMES[module].split() if not is_there(module, name)]


def holder(name: str) -> Any:
    """What has the members of a class of NeuPy: a network, where NeuPy has one class for layers and networks."""
    return Input(3) >> Relu(2) if name in ("BaseGraph", "LayerGraph") else getattr(layers, name)


def test_members_that_are_listed_are_not_there():
    assert MISSING_MEMBERS
    for names in MISSING_MEMBERS:
        classes = [name for name in names if name in NAMES["neupy.layers"].split()]
        members = names[len(classes) :]
        assert classes and members == sorted(members)
        for name in classes:
            assert not [member for member in members if hasattr(holder(name), member)]


def test_members_that_are_not_listed_are_there():
    for name, members in MEMBERS.items():
        listed = {member for names in MISSING_MEMBERS if name in names for member in names}
        assert [member for member in members.split() if not hasattr(holder(name), member)] == [
            member for member in members.split() if member in listed
        ]


# Older files


@pytest.fixture
def network() -> LayerGraph:
    return Input(4) >> Relu(3, name="hid") >> Softmax(2, name="out")


def test_shapes_in_files_of_neupy_0_7_are_not_looked_at(network, tmp_path):
    path = tmp_path / "network.hdf5"
    storage.save(network, path)
    with h5py.File(path, "a") as file:
        for name in file:
            file[name].attrs.update(input_shape=json.dumps([None, 4]), output_shape=json.dumps([None, 3]))
    data = storage.save_dict(network)
    for layer in data["layers"]:
        layer.update(input_shape=(None, 4), output_shape=(None, 3))
    twins = [Input(4) >> Relu(3, name="hid") >> Softmax(2, name="out") for _ in range(2)]
    storage.load(twins[0], path)
    storage.load_dict(twins[1], data)
    x = torch.randn(5, 4)
    for twin in twins:
        assert torch.equal(twin(x), network(x))


@pytest.mark.parametrize("make", [lambda network: network, lambda network: torch.optim.Adam(network.parameters())])
def test_a_pickle_of_a_network_or_optimizer_is_refused(make, network, tmp_path):
    path = tmp_path / "whole.pickle"
    path.write_bytes(pickle.dumps(make(network)))
    with pytest.raises(storage.InvalidFormat):
        storage.load_pickle(network, path)


def test_kernels_of_neupy_0_6_have_to_be_turned():
    """Those are convolutions of mathematics, with the channels first."""
    kernel = np.random.default_rng(0).normal(size=(5, 2, 3, 3)).astype("float32")
    network = Input((8, 8, 2)) >> Convolution((3, 3, 5), name="c")
    data = storage.save_dict(network)
    weight = next(layer for layer in data["layers"] if layer["name"] == "c")["parameters"]["weight"]
    weight["value"] = kernel
    with pytest.raises(storage.ParameterLoaderError):
        storage.load_dict(network, data)
    weight["value"] = kernel[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)
    storage.load_dict(network, data)
    image = torch.randn(1, 8, 8, 2)
    flipped = torch.from_numpy(kernel[:, :, ::-1, ::-1].copy())
    torch.testing.assert_close(
        network(image).permute(0, 3, 1, 2), functional.conv2d(image.permute(0, 3, 1, 2), flipped)
    )


def test_the_training_in_full_names_only_what_neupy_has():
    """The comments of the program, which are lines for NeuPy, are Python, and their ``algorithms`` are NeuPy's."""
    comments = re.findall(r"^   # (.*)$", section("What to write", "~"), re.MULTILINE)
    tree = ast.parse("\n".join(comments))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "algorithms"
    }
    assert used and used <= set(NAMES["neupy.algorithms"].split())
