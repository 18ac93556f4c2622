"""Names of layers, as NeuPy forms them, and the keys of ``state_dict``, which must not depend on anything else."""

import inspect
import json
import re
import string
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from torchneupy.layers import (
    BaseLayer,
    Concatenate,
    DropBlock,
    Dropout,
    Elementwise,
    Elu,
    GaussianNoise,
    HardSigmoid,
    Identity,
    Input,
    LayerGraph,
    LeakyRelu,
    Linear,
    PRelu,
    Relu,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    join,
    naming,
    parallel,
)
from torchneupy.layers.naming import escape_key, new_name, reset_names

ROOT = Path(__file__).parents[2]


def identity_named(name=None):
    return Identity(name=name)


def keys_of(network):
    return [key for key, _ in network.named_children()]


# Automatic names and patterns


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (Identity, "identity-1"),
        (lambda: Input(1), "input-1"),
        (Linear, "linear-1"),
        (Sigmoid, "sigmoid-1"),
        (HardSigmoid, "hard-sigmoid-1"),
        (Tanh, "tanh-1"),
        (Softmax, "softmax-1"),
        (Relu, "relu-1"),
        (LeakyRelu, "leaky-relu-1"),
        (Elu, "elu-1"),
        (PRelu, "p-relu-1"),
        (Softplus, "softplus-1"),
        (lambda: Dropout(0.5), "dropout-1"),
        (GaussianNoise, "gaussian-noise-1"),
        (lambda: DropBlock(0.5, 2), "drop-block-1"),
        (Elementwise, "elementwise-1"),
        (Concatenate, "concatenate-1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layers_are_named_as_in_neupy(layer, name):
    assert layer().name == name


# Recorded from NeuPy 0.8.2.
CLASS_NAMES = {
    "MyCNN": "mycnn-1",
    "Conv2D": "conv2d-1",
    "XMLParser": "xml-parser-1",
    "_Private": "_-private-1",
    "My_Layer": "my_-layer-1",
    "lower": "lower-1",
    "A": "a-1",
    "LocalResponseNorm": "local-response-norm-1",
    "BatchNorm": "batch-norm-1",
    "LSTM": "lstm-1",
    "GRU": "gru-1",
}


@pytest.mark.parametrize(("class_name", "name"), CLASS_NAMES.items())
def test_classes_are_named_as_in_neupy(class_name, name):
    assert type(class_name, (Identity,), {})().name == name


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}|[aB_][aB_9]{1,8}", fullmatch=True))
def test_a_dash_stands_before_each_capital_that_a_small_letter_or_underscore_follows(class_name):
    expected = ""
    for place, letter in enumerate(class_name):
        following = class_name[place + 1 : place + 2]
        if place and letter in string.ascii_uppercase and following and following in string.ascii_lowercase + "_":
            expected += "-"
        expected += letter.lower()
    reset_names()
    assert type(class_name, (Identity,), {})().name == f"{expected}-1"


def test_the_module_of_a_torch_class_gives_its_name():
    network = join(Input(3), nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    assert [layer.name for layer in network] == ["input-1", "linear-1", "batch-norm1d-1", "linear-2"]


def test_an_automatic_name_shares_its_counter_with_the_same_pattern():
    names = [Relu().name, Relu().name, Relu(name="relu-{}").name, Relu(name="relu-1").name, Relu().name]
    assert names == ["relu-1", "relu-2", "relu-3", "relu-1", "relu-4"]


def test_each_pattern_has_a_counter_of_its_own():
    names = [Relu(name=name).name for name in ("fc{}", "fc{}", "a{0}", "a{0}", "fc{:d}", "fc-{:03d}", "fc{}")]
    assert names == ["fc1", "fc2", "a1", "a2", "fc1", "fc-001", "fc3"]


def test_classes_share_the_counter_of_a_pattern():
    assert [Relu(name="x{}").name, Dropout(0.5, name="x{}").name] == ["x1", "x2"]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("{{x}}", "{{x}}"), ("{{x}}{}", "{x}1"), ("", ""), ("a.b", "a.b"), ("a-{:03d}", "a-001"), ("{:x}", "1")],
)
def test_braces_and_literal_names(pattern, name):
    assert Relu(name=pattern).name == name


# What NeuPy's documentation promises of "{:<03d}" must hold for every spelling that would fill on the right.
@pytest.mark.parametrize("field", ["{:<03d}", "{:<03}", "{:0<3d}", "{:0<3}", "{:<003d}", "{0:<03d}", "{:^03d}"])
def test_zeros_stand_before_the_number(field):
    names = [Relu(name=f"fc-{field}").name for _ in range(999)]
    assert names == [f"fc-{number:03}" for number in range(1, 1000)]


def test_the_numbers_of_a_padded_pattern_go_on_after_its_width_is_full():
    names = [new_name("a{:<02d}") for _ in range(101)]
    assert names[-3:] == ["a99", "a100", "a101"] and len(set(names)) == 101


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{}{}", r"pattern has more than one field specified.*Pattern: \{\}\{\}"),
        ("fc{}-{}", r"pattern has more than one field specified.*Pattern: fc\{\}-\{\}"),
        ("{index}", r"'index'.*Pattern: \{index\}"),
        ("a{1}", r"'1'.*a\{1\}"),
        ("a{.real}", r"'.real'.*a\{.real\}"),
        ("b-{:s}", r"b-\{:s\}.*Unknown format code 's'"),
        ("a{", r"'a\{'.*not a valid pattern"),
        ("a}", r"'a\}'.*not a valid pattern"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        Relu(name=pattern)
    # A refused layer leaves no gap in any counter.
    assert [Relu().name, Relu(name="fc{}").name, Relu(name="b-{:d}").name] == ["relu-1", "fc1", "b-1"]


@pytest.mark.parametrize("refused", [lambda: Relu(-1), lambda: Relu(2, name="fc{}", alpha=-1), lambda: Relu(bias="x")])
def test_a_refused_layer_leaves_no_gap_in_the_numbers(refused):
    with pytest.raises((ValueError, TypeError), match=r"n_units|alpha|bias"):
        refused()
    assert [Relu().name, Relu(name="fc{}").name] == ["relu-1", "fc1"]


@pytest.mark.parametrize("name", [5, b"fc", 2.5, ["fc"], Relu])
def test_a_name_is_a_text(name):
    with pytest.raises(TypeError, match=re.escape(repr(name))):
        Relu(name=name)
    assert Relu().name == "relu-1"


def test_a_name_may_be_changed_to_another_text():
    layer = Relu(name="same")
    layer.name = "other"
    assert (layer.name, layer.original_name) == ("other", "same")
    with pytest.raises(TypeError, match=r"Invalid data type `int` for `name` property. Expected types: str.*got 5"):
        layer.name = 5
    assert layer.name == "other"


def test_reset_names_starts_every_counter_again():
    first = [Relu().name, Relu(name="fc{}").name, Relu().name]
    reset_names()
    assert [Relu().name, Relu(name="fc{}").name, Relu().name] == first == ["relu-1", "fc1", "relu-2"]


def test_threads_get_different_names():
    n_threads, n_names = 16, 200
    names: list[list[str]] = [[] for _ in range(n_threads)]
    start = threading.Barrier(n_threads)

    def make(own):
        start.wait()
        for _ in range(n_names):
            own += [new_name("fc{}"), identity_named().name]

    threads = [threading.Thread(target=make, args=(own,)) for own in names]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that a counter without a lock would be caught between reading and writing
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    made = [name for own in names for name in own]
    numbers = range(1, n_threads * n_names + 1)
    assert sorted(made) == sorted([f"fc{n}" for n in numbers] + [f"identity-{n}" for n in numbers])


# Escaping

SPECIAL = st.sampled_from(["", "@", "%", ".", "_", "%2E", "%25", "output", "@output", "train", "a"])
any_name = (
    st.text(max_size=8) | st.lists(SPECIAL, max_size=4).map("".join) | st.sampled_from(sorted(naming.RESERVED_KEYS))
)


@settings(max_examples=500)
@given(any_name, any_name)
@example(".%2E", "..")  # only the escaped "%" tells them apart
@example("output", "@output")
def test_different_names_have_different_keys(a, b):
    assert (escape_key(a) == escape_key(b)) == (a == b)


@given(any_name)
def test_a_key_is_one_that_every_network_accepts(name):
    key = escape_key(name)
    assert key and "." not in key
    assert not hasattr(nn.Module, key) and not hasattr(LayerGraph, key) and key not in vars(LayerGraph())
    LayerGraph().add_module(key, nn.Identity())  # raises if nn.Module refuses it


@given(st.from_regex(r"[a-z][a-z0-9-]{0,9}-[0-9]", fullmatch=True))
def test_usual_names_are_their_own_keys(name):
    assert escape_key(name) == name


@given(st.lists(any_name.map(lambda name: name.replace("{", "").replace("}", "")), max_size=5))
def test_any_names_can_stand_in_one_network(names):
    layers = [identity_named(name) for name in names]
    network = join(*layers)
    keys = keys_of(network)
    assert len(set(keys)) == len(keys) == len(names)
    # The first layer of a name has the name's key.
    assert [keys[names.index(name)] for name in names] == [escape_key(name) for name in names]
    assert [layer.name for layer in network] == names


RESERVED = sorted(naming.RESERVED_KEYS)


@pytest.mark.parametrize("name", [*RESERVED, "", ".", "a.b", "_modules", "__class__", "@", "100%", "weight", "a/b"])
def test_a_layer_may_have_any_name(name):
    network = Input(2, name="x") >> Linear(3, name=name)
    layer = network.layers[1]
    assert network.layer(name) is layer is network[name] and layer.name == name
    assert list(network.state_dict()) == [f"{escape_key(name)}.weight", f"{escape_key(name)}.bias"]
    x = torch.ones(4, 2)
    assert network.train().eval()(x).shape == network.output(x).shape == (4, 3)
    assert network.end(name).output_shape == network.output_shape == (None, 3)
    other = Input(2, name="x") >> Linear(3, name=name)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))


def public_attributes(kind, instance):
    names = {*dir(kind), *vars(instance)}
    for base in kind.__mro__:
        names.update(inspect.get_annotations(base))
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize(
    ("kind", "instance"),
    [
        (nn.Module, nn.Module()),
        (LayerGraph, LayerGraph()),
        (LayerGraph, Input(2) >> (Relu(2) | Tanh(2)) >> Concatenate()),
    ],
)
def test_every_public_attribute_is_reserved(kind, instance):
    # The list is frozen, so that keys never change by themselves: a new attribute has to be added by hand.
    assert public_attributes(kind, instance) - naming.RESERVED_KEYS == set()


# Keys of networks


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ([None, None], ["identity-1", "identity-2"]),
        (["fc{}", None, "fc{}"], ["fc1", "identity-1", "fc2"]),
        (["fc-{:<03d}", "fc-{:<03d}"], ["fc-001", "fc-002"]),
        # Literal names come first, wherever they stand.
        ([None, "identity-1", None], ["identity-2", "identity-1", "identity-3"]),
        (["fc{}", "fc1", "fc3", "fc{}", "fc{}"], ["fc2", "fc1", "fc3", "fc4", "fc5"]),
        # Two patterns may lead to one name.
        (["a{}", "a{:d}", "a{}"], ["a1", "a2", "a3"]),
        (["output", "a.b", ""], ["@output", "@a%2Eb", "@"]),
        (["out{}put", "out1put"], ["out2put", "out1put"]),
    ],
)
def test_keys_are_numbered_within_the_network(names, keys):
    for pattern in ("identity-{}", "fc{}", "a{}"):
        new_name(pattern)
    assert keys_of(join(*map(identity_named, names))) == keys


def test_a_repeated_name_gets_a_suffix_and_the_first_stays():
    network = Input(2, name="x") >> Linear(2, name="same") >> Linear(2, name="same") >> Linear(2, name="same")
    keys = keys_of(network)
    assert keys[:2] == ["x", "same"] and len(set(keys)) == 4
    assert all(key.startswith("same") for key in keys[1:])
    assert [layer.name for layer in network] == ["x", "same", "same", "same"]


def test_a_suffix_takes_no_other_layers_name():
    keys = keys_of(join(*map(identity_named, ["a", "a", "a-2", "a-3", "a"])))
    assert (keys[0], keys[2], keys[3]) == ("a", "a-2", "a-3") and len(set(keys)) == 5


def test_a_name_assigned_later_is_literal():
    layers = [identity_named(), identity_named(), identity_named("a")]
    layers[0].name = "first"
    layers[2].name = "identity-1"
    assert keys_of(join(*layers)) == ["first", "identity-2", "identity-1"]


def build_twice():
    """Networks of the same code, as functions."""
    return [
        lambda: join(Input(4), Relu(3) >> Dropout(0.2), Relu(3, name="fc{}"), Softmax(2)),
        lambda: Input(4) >> (Relu(3) | Relu(3, name="relu-1") | Tanh(3, name="out.put")) >> Concatenate() >> Linear(1),
        lambda: Input(4, name="a") >> Linear(3, name="a") >> Linear(3, name="a") >> PRelu(2, name="output"),
        lambda: join(Input(4), nn.Linear(4, 3), Relu(3), nn.Linear(3, 2)),
    ]


@pytest.mark.parametrize("build", build_twice())
def test_the_same_code_gives_the_same_keys_whatever_was_built_before(build):
    expected = list(build().state_dict())
    for _ in range(12):
        join(Input(2), Relu(2), Tanh(2), Linear(2), Dropout(0.1), Relu(2, name="fc{}"))
    other = build()
    assert list(other.state_dict()) == expected
    other.load_state_dict(build().state_dict())


SCRIPT = """
import json, sys
from torchneupy.layers import *
for _ in range(int(sys.argv[1])):
    Input(1) >> Relu(1) >> Tanh(1, name="fc{}")
network = join(Input(4), Relu(3), Relu(3, name="fc{}") >> Tanh(3, name="output"), Relu(3) | Relu(3), Concatenate())
network >>= Linear(2, name="relu-2") >> Linear(2, name="a") >> Linear(2, name="a")
print(json.dumps(list(network.state_dict())))
"""


def keys_elsewhere(n_before):
    command = [sys.executable, "-c", SCRIPT, str(n_before)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def test_another_process_gives_the_same_keys():
    fresh, used = keys_elsewhere(0), keys_elsewhere(13)
    assert fresh == used
    assert [key for key in fresh if key.endswith("weight")][:5] == [
        f"{key}.weight" for key in ("relu-1", "fc1", "@output", "relu-3", "relu-4")
    ]


# Names that get into each other's way; few at a time, so that they do.
AWKWARD = [None, "identity-1", "a", "a{}", "a{:d}", "a-{}", "a-2", "end"]
awkward_names = st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=2, unique=True).flatmap(
    lambda few: st.lists(st.sampled_from(few), min_size=2, max_size=6)
)


def by_twos(layers, draw, compose):
    """Compose layers in their order, two parts at a time, in whatever order ``draw`` says."""
    parts = list(layers)
    while len(parts) > 1:
        place = draw.randrange(len(parts) - 1)
        parts[place : place + 2] = [compose(parts[place], parts[place + 1])]
    return parts[0]


@settings(max_examples=400)
@given(awkward_names, st.randoms(use_true_random=False))
def test_keys_are_those_of_join_in_whatever_steps_a_network_is_put_together(names, draw):
    layers = [identity_named(name) for name in names]
    whole = join(*layers)
    stepwise = by_twos(layers, draw, lambda left, right: left >> right)
    assert [layer is other for layer, other in zip(whole, stepwise, strict=True)] == [True] * len(names)
    assert keys_of(stepwise) == keys_of(whole)


@settings(max_examples=400)
@given(awkward_names, st.randoms(use_true_random=False))
def test_keys_are_those_of_parallel_in_whatever_steps_a_network_is_put_together(names, draw):
    layers = [identity_named(name) for name in names]
    assert keys_of(by_twos(layers, draw, lambda left, right: left | right)) == keys_of(parallel(*layers))


@given(awkward_names)
def test_keys_are_those_of_a_hand_made_graph(names):
    layers = [identity_named(name) for name in names]
    hand_made = LayerGraph([(layer, layers[place + 1 : place + 2]) for place, layer in enumerate(layers)])
    assert keys_of(hand_made) == keys_of(join(*layers))


def test_the_suffix_of_a_repeated_name_goes_before_a_pattern_that_came_earlier():
    a, b, c, d = map(identity_named, ["a-{}", "a-{}", "a", "a"])
    assert keys_of((a >> b) >> (c >> d)) == keys_of(join(a, b, c, d)) == ["a-1", "a-3", "a", "a-2"]


def test_a_part_of_a_network_is_numbered_anew():
    network = join(Input(2), Relu(2), Relu(2), Relu(2))
    assert keys_of(network[2:]) == ["relu-1", "relu-2"] == keys_of(network.start(network[2]))
    assert [layer.name for layer in network[2:]] == ["relu-2", "relu-3"]


def test_keys_are_in_topological_order():
    x, a, b, e = Input(1, name="x"), Relu(1), Relu(1), Concatenate(name="e")
    network = (b >> e) | (a >> b) | (x >> a)
    assert [layer.name for layer in network] == ["x", "relu-1", "relu-2", "e"]
    assert keys_of(network) == ["x", "relu-1", "relu-2", "e"]
    assert [key.split(".")[0] for key in network.state_dict()][::2] == ["relu-1", "relu-2"]


class Numbered(BaseLayer):
    def output(self, input):
        return input


def test_classes_that_are_made_at_run_time_move_no_counter():
    layer = Linear(2)
    Numbered()
    join(Input(2), layer)
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Identity())
    assert type(layer) is not Linear
    assert [Linear().name, Numbered().name, layer.name] == ["linear-2", "numbered-2", "linear-1"]
