"""Running networks: modes and flags, hooks, replaced layers, values between the layers, and errors."""

import weakref

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from torchneupy.layers import (
    BaseLayer,
    Concatenate,
    Dropout,
    Elementwise,
    GaussianNoise,
    Identity,
    Input,
    LayerGraph,
    Linear,
    Relu,
    Tanh,
    as_layer,
    join,
)
from torchneupy.layers.topology import plan_steps


def chain():
    return Input(4) >> Relu(4, name="first") >> Dropout(0.5, name="drop") >> Linear(4, name="last")


def branches():
    first = Relu(4, name="first")
    return (
        Input(4) >> first >> (Dropout(0.5, name="drop") | Identity(name="i")) >> Elementwise() >> Linear(4, name="last")
    )


both = pytest.mark.parametrize("make", [chain, branches])


def seeded(function, *arguments, **keywords):
    torch.manual_seed(3)
    return function(*arguments, **keywords)


# Modes and flags


@both
@pytest.mark.parametrize("training", [True, False])
def test_forward_is_output_with_the_flag_of_the_mode(make, training):
    network, x = make().train(training), torch.randn(6, 4)
    found = seeded(network, x)
    assert torch.equal(found, seeded(network.output, x, training=training))
    # The flag counts, whatever the mode is.
    assert torch.equal(found, seeded(network.train(not training).output, x, training=training))
    assert not torch.equal(found, seeded(network, x))
    assert all(part.training is not training for part in network.modules())


@both
def test_output_is_no_training_unless_it_says_so(make):
    network, x = make(), torch.randn(6, 4)
    assert torch.equal(network.output(x), network.eval()(x))
    assert not torch.equal(seeded(network.output, x, training=True), network.output(x))


@both
def test_chain_and_branches_compute_what_torch_computes(make):
    network, x = make().eval(), torch.randn(6, 4)
    hidden = torch.relu(x @ network["first"].weight + network["first"].bias)
    hidden = hidden if make is chain else hidden + hidden
    torch.testing.assert_close(network(x), hidden @ network["last"].weight + network["last"].bias)


@both
def test_dropout_in_training_is_that_of_torch(make):
    network, x = make(), torch.randn(6, 4)
    hidden = torch.relu(x @ network["first"].weight + network["first"].bias)
    dropped = seeded(nn.functional.dropout, hidden, 0.5)
    hidden = dropped if make is chain else dropped + hidden
    torch.testing.assert_close(seeded(network, x), hidden @ network["last"].weight + network["last"].bias)


@both
def test_a_frozen_layer_stays_frozen(make):
    network, x = make().train(), torch.randn(6, 4)
    network["drop"].eval()
    assert torch.equal(network(x), network.output(x))
    assert not torch.equal(seeded(network.output, x, training=True), network.output(x))
    network.eval()
    network["drop"].train()
    assert torch.equal(seeded(network, x), seeded(network.output, x, training=True))


def test_the_mode_of_a_frozen_module_of_torch_counts():
    network = Input(4) >> nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)) >> Relu()
    norm, dropout = network[1].module
    norm.eval()
    network(torch.randn(8, 4))
    assert norm.num_batches_tracked == 0 and norm.training is False and dropout.training is True
    network.output(torch.randn(8, 4), training=True)
    assert norm.num_batches_tracked == 1 and norm.training is False


@both
def test_gradients_flow_and_output_keeps_them(make):
    network, x = make().eval(), torch.randn(6, 4)
    for run in (network, network.output):
        network.zero_grad()
        run(x).sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


# Custom layers and keywords


class Plain(BaseLayer):
    def get_output_shape(self, input_shape):
        return input_shape

    def output(self, x):
        return x + 1


class Flag(Plain):
    def output(self, x, training=False):
        return x + (10 if training else 1)


class Keywords(Plain):
    def output(self, x, **kwargs):
        self.seen = kwargs
        return x + (10 if kwargs.get("training") else 1)


class KeywordOnly(Plain):
    def output(self, x, *, training=False, scale=1):
        return (x + (10 if training else 1)) * scale


class Inherits(Flag):
    pass


@pytest.mark.parametrize(
    "cls, training_adds", [(Plain, 1), (Flag, 10), (Keywords, 10), (KeywordOnly, 10), (Inherits, 10)]
)
@pytest.mark.parametrize(
    "extend", [lambda layer: layer, lambda layer: layer >> (Identity() | Identity()) >> Concatenate()]
)
def test_a_custom_layer_gets_the_flag_if_it_takes_it(cls, training_adds, extend):
    network, x = Input(1) >> extend(cls()), torch.zeros(1, 1)
    for training, expected in [(True, training_adds), (False, 1)]:
        network.train(training)
        assert network(x)[0, 0].item() == network[1](x).item() == expected
        assert network.output(x, training=training)[0, 0].item() == expected
    assert network.output(x)[0, 0].item() == 1


@pytest.mark.parametrize("cls", [Plain, Flag, KeywordOnly])
@pytest.mark.parametrize("extend", [lambda layer: layer, lambda layer: layer >> (Identity() | Identity())])
def test_an_unknown_keyword_is_refused(cls, extend):
    network = Input(1) >> extend(cls(name="mine"))
    with pytest.raises(TypeError, match=rf"{cls.__name__}.output\(\).*'other'") as caught:
        network.output(torch.zeros(1, 1), other=1)
    assert "`mine`" in caught.value.__notes__[0]


def test_keywords_reach_every_layer():
    mine = Keywords()
    network = Input(1) >> Relu() >> mine
    network.output(torch.zeros(1, 1), training=True, other=5)
    assert mine.seen == {"other": 5, "training": True}
    assert (Input(1) >> KeywordOnly()).output(torch.zeros(1, 1), scale=3).item() == 3


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Input(3) >> Dropout(0.5), r"Dropout.output\(\).*'extra'"),
        (lambda: Input(3) >> GaussianNoise(), r"GaussianNoise.output\(\).*'extra'"),
        (lambda: Input(3) >> nn.Linear(3, 3), r"'extra'"),
    ],
)
def test_a_keyword_that_a_layer_of_ours_does_not_take(make, words):
    with pytest.raises(TypeError, match=words):
        make().output(torch.ones(1, 3), extra=1)


def test_an_unknown_keyword_is_refused_by_a_replaced_layer_too():
    network = Input(3) >> Relu(3)
    setattr(network, "relu-1", nn.Linear(3, 3))
    with pytest.raises(TypeError, match="extra"):
        network.output(torch.ones(1, 3), extra=1)


# Several outputs


def test_several_outputs_are_a_tuple_in_the_order_of_the_output_layers():
    network = Input(2) >> (Linear(1, weight=1, bias=0) | Linear(3, weight=2, bias=0) | Identity())
    for outputs in (network(torch.ones(4, 2)), network.output(torch.ones(4, 2))):
        assert type(outputs) is tuple
        assert [tuple(output.shape) for output in outputs] == [(4, 1), (4, 3), (4, 2)]
        assert [output[0, 0].item() for output in outputs] == [2, 4, 1]


def test_an_input_may_be_an_output_too():
    x, y = torch.ones(1, 2), torch.zeros(1, 2)
    outputs = (Input(2) | Input(2) >> Relu())(x, y)
    assert outputs[0] is x and torch.equal(outputs[1], y)


# Hooks


@both
@pytest.mark.parametrize("where", ["first", "drop", "last"])
@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
def test_hooks_of_layers_run_with_the_call_and_not_with_output(make, where, register):
    network, seen = make(), []
    handle = getattr(network[where], register)(lambda module, *values: seen.append(module))
    network.eval()(torch.randn(3, 4, requires_grad=True)).sum().backward()
    assert seen == [network[where]]
    network.output(torch.randn(3, 4, requires_grad=True)).sum().backward()
    assert seen == [network[where]]
    handle.remove()
    network(torch.randn(3, 4, requires_grad=True)).sum().backward()
    assert len(seen) == 1


@both
def test_backward_pre_hooks_run(make):
    network, seen = make().eval(), []
    network["drop"].register_full_backward_pre_hook(lambda module, gradient: seen.append(module))
    network(torch.randn(3, 4)).sum().backward()
    assert seen == [network["drop"]]


@both
def test_hooks_may_change_what_goes_in_and_comes_out(make):
    network, x = make().eval(), torch.randn(3, 4)
    network["last"].register_forward_pre_hook(lambda module, inputs: (torch.zeros_like(inputs[0]),))
    network["last"].register_forward_hook(lambda module, inputs, output: output + 7)
    torch.testing.assert_close(network(x), network["last"].bias.expand(3, 4) + 7)


@both
def test_a_hook_that_is_always_called_sees_a_failure(make):
    network, seen = make(), []
    network["last"].register_forward_hook(lambda *values: seen.append(values[0]), always_call=True)
    network["last"].register_forward_pre_hook(lambda module, inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        network(torch.randn(3, 4))
    assert seen == [network["last"]]


GLOBAL_HOOKS = [
    torch_module.register_module_forward_hook,
    torch_module.register_module_forward_pre_hook,
    torch_module.register_module_full_backward_hook,
    torch_module.register_module_full_backward_pre_hook,
]


@both
@pytest.mark.parametrize("register", GLOBAL_HOOKS, ids=[register.__name__ for register in GLOBAL_HOOKS])
def test_hooks_for_all_modules_see_every_layer(make, register):
    network, seen = make().eval(), set()
    handle = register(lambda module, *values: seen.add(module))
    try:
        network(torch.randn(3, 4, requires_grad=True)).sum().backward()
    finally:
        handle.remove()
    assert seen == {network, *network}


@both
def test_hooks_of_the_network_run(make):
    network = make().eval()
    network.register_forward_hook(lambda module, inputs, output: output * 0)
    assert not network(torch.randn(3, 4)).any() and network.output(torch.randn(3, 4)).any()


# A forward, or a call, of its own


@both
def test_a_patched_forward_runs(make):
    network = make().eval()
    network["first"].forward = torch.zeros_like
    torch.testing.assert_close(network(torch.randn(3, 4)), network["last"].bias.expand(3, 4))


@both
def test_a_patched_output_runs(make):
    network = make().eval()
    network["first"].output = lambda x, **kwargs: torch.zeros_like(x)
    torch.testing.assert_close(network(torch.randn(3, 4)), network["last"].bias.expand(3, 4))
    torch.testing.assert_close(network.output(torch.randn(3, 4)), network["last"].bias.expand(3, 4))


@both
def test_a_class_with_a_forward_of_its_own(make):
    class Loud(Relu):
        def forward(self, x):
            return super().forward(x) + 100

    network = make().eval()
    loud = network["first"]
    loud.__class__ = Loud
    assert network.end("first")(torch.randn(3, 4)).min() >= 100


@both
def test_a_compiled_layer_runs(make):
    network, compiled = make().eval(), []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    expected = network(torch.ones(3, 4))
    network["first"].compile(backend=backend)
    torch.testing.assert_close(network(torch.ones(3, 4)), expected)
    assert len(compiled) == 1


@both
def test_a_patched_call_of_all_modules_is_used(make, monkeypatch):
    network, seen, call = make().eval(), [], nn.Module.__call__

    def patched(self, *arguments, **keywords):
        seen.append(self)
        return call(self, *arguments, **keywords)

    monkeypatch.setattr(nn.Module, "__call__", patched)
    network(torch.randn(3, 4))
    assert seen == [network, *network]


# What stands in the network now is what runs


class Doubled(nn.Module):
    """Wraps a layer, as checkpointing or an adapter for fine-tuning would."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return 2 * self.layer(x)


@both
@pytest.mark.parametrize("replace", [setattr, lambda network, key, module: network._modules.update({key: module})])
@pytest.mark.parametrize("run", ["__call__", "output", "predict"])
def test_a_replaced_layer_is_the_one_that_runs(make, replace, run):
    network, x = make().eval(), torch.randn(3, 4)
    first, last = network["first"], network["last"]
    replace(network, "last", Doubled(last))
    expected = torch.relu(x @ first.weight + first.bias) * (1 if make is chain else 2)
    expected = 2 * (expected @ last.weight + last.bias)
    options = {"verbose": False} if run == "predict" else {}
    torch.testing.assert_close(torch.as_tensor(getattr(network, run)(x, **options)), expected)
    assert sorted(network.state_dict()) == sorted(
        ["first.weight", "first.bias", "last.layer.weight", "last.layer.bias"]
    )
    assert network["last"] is network[len(network) - 1] and isinstance(network["last"], Doubled)


@both
def test_a_layer_replaced_by_another_layer(make):
    network, x = make().eval(), torch.randn(3, 4)
    network.last = Tanh()
    assert torch.equal(
        network(x), torch.tanh(network.end("i" if make is branches else "drop")(x) * (1 if make is chain else 2))
    )
    assert torch.equal(network(x), network.output(x))


@both
def test_a_replaced_layer_gets_the_flag_by_its_mode(make):
    network, x = make().eval(), torch.ones(50, 4)
    network.drop = nn.Dropout(0.5)
    network.eval()
    assert not torch.equal(seeded(network.output, x, training=True), network.output(x))
    assert torch.equal(network.output(x), network(x))
    assert not any(part.training for part in network.modules())


def test_a_replaced_layer_fails_and_its_mode_is_restored():
    class Fails(nn.Module):
        def forward(self, x):
            assert self.training
            raise LookupError("why")

    network = (Input(4) >> Relu(4)).eval()
    setattr(network, "relu-1", Fails().eval())
    with pytest.raises(LookupError, match="why"):
        network.output(torch.ones(1, 4), training=True)
    assert not network[1].training


def test_a_traced_module_may_replace_a_layer():
    network = Input(4) >> Linear(4) >> Relu()
    linear = nn.Linear(4, 4)
    network.add_module("linear-1", torch.fx.symbolic_trace(linear))
    x = torch.randn(2, 4)
    torch.testing.assert_close(network(x), torch.relu(linear(x)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("run", ["__call__", "output"])
def test_a_scripted_module_may_replace_a_layer(run):
    network = Input(4) >> Linear(4) >> Relu()
    linear = nn.Linear(4, 4)
    setattr(network, "linear-1", torch.jit.script(linear))
    x = torch.randn(2, 4)
    torch.testing.assert_close(getattr(network, run)(x), torch.relu(linear(x)))


def test_a_network_in_a_network_keeps_its_hooks():
    inner, seen = Relu(4) >> Relu(4), []
    inner.register_forward_hook(lambda *values: seen.append("inner"))
    inner[0].register_forward_hook(lambda *values: seen.append("layer"))
    outer = Input(4) >> as_layer(inner)
    outer(torch.ones(1, 4))
    assert seen == ["layer", "inner"]


# Errors


class Fails(Identity):
    error: Exception

    def output(self, input, **kwargs):
        raise self.error


class Coded(Exception):
    """Cannot be made anew from its text."""

    def __init__(self, code, *, hint):
        super().__init__(f"code {code}")
        self.code, self.hint = code, hint


ERRORS = [
    UnicodeDecodeError("utf8", b"", 0, 1, "why"),
    KeyError("missing"),
    Coded(7, hint="why"),
    torch.cuda.OutOfMemoryError("no memory"),
    StopIteration("end"),
]


@pytest.mark.parametrize("error", ERRORS, ids=[type(error).__name__ for error in ERRORS])
@pytest.mark.parametrize("run", ["__call__", "output", "predict"])
@pytest.mark.parametrize("extend", [lambda layer: layer, lambda layer: (layer | Identity()) >> Concatenate()])
def test_an_error_comes_as_it_is_with_a_note(error, run, extend):
    layer = Fails(name="broken")
    layer.error = error
    error.__notes__ = []  # the same error is raised in each of these tests
    network = Input(3) >> extend(layer)
    with pytest.raises(type(error)) as caught:
        getattr(network, run)(torch.ones(2, 3))
    assert caught.value is error
    (note,) = error.__notes__
    assert "`broken`" in note and "(2, 3)" in note and "float32" in note and "cpu" in note and "Fails(" in note


@pytest.mark.parametrize("run", ["__call__", "output"])
def test_the_note_tells_the_inputs_of_a_layer_with_many(run):
    network = (Input(2) | Input(None)) >> Concatenate(axis=0, name="both") >> Relu()
    with pytest.raises(RuntimeError, match="Sizes of tensors must match") as caught:
        getattr(network, run)(torch.ones(1, 2), torch.ones(1, 3, dtype=torch.float64))
    (note,) = caught.value.__notes__
    assert "`both`" in note and "(1, 2) torch.float32" in note and "(1, 3) torch.float64" in note


def test_notes_of_nested_networks_go_from_the_inside_to_the_outside():
    inner = Fails(name="broken") >> Identity()
    inner["broken"].error = LookupError("why")
    network = Input(3) >> as_layer(inner, name="block")
    with pytest.raises(LookupError, match="why") as caught:
        network(torch.ones(2, 3))
    assert [name in note for name, note in zip(["`broken`", "`block`"], caught.value.__notes__, strict=True)] == [
        True
    ] * 2


@pytest.mark.parametrize("run", ["__call__", "output"])
def test_a_network_that_is_not_built_says_which_layer(run):
    network = Relu(3, name="first") >> Relu(2)
    with pytest.raises(RuntimeError, match="first") as caught:
        getattr(network, run)(torch.ones(1, 3))
    assert "no variables" in str(caught.value) + "".join(caught.value.__notes__)


@both
@pytest.mark.parametrize("run", ["__call__", "output"])
def test_a_wrong_dtype_is_told_with_the_layer(make, run):
    network = make()
    with pytest.raises(RuntimeError, match="dtype") as caught:
        getattr(network, run)(torch.ones(1, 4, dtype=torch.float64))
    (note,) = caught.value.__notes__
    assert "`first`" in note and "(1, 4)" in note and "float64" in note


# Values are dropped after their last use


class Watched(Identity):
    """Makes a new value, and remembers which of the earlier ones are still there."""

    def __init__(self, made, alive, name=None):
        super().__init__(name=name)
        self.made, self.alive = made, alive

    def output(self, input, **kwargs):
        self.alive[self.name] = {name for name, value in self.made.items() if value() is not None}
        result = input + 1
        self.made[self.name] = weakref.ref(result)
        return result


@pytest.mark.parametrize("run", ["__call__", "output"])
def test_values_in_a_chain_are_dropped(run):
    made: dict[str, weakref.ref[torch.Tensor]] = {}
    alive: dict[str, set[str]] = {}
    network = join(Input(1), *[Watched(made, alive, name=name) for name in "abc"])
    getattr(network, run)(torch.ones(1, 1))
    assert alive == {"a": set(), "b": {"a"}, "c": {"b"}}


@pytest.mark.parametrize("run", ["__call__", "output"])
def test_values_in_a_graph_are_dropped_after_their_last_use(run):
    made: dict[str, weakref.ref[torch.Tensor]] = {}
    alive: dict[str, set[str]] = {}
    x = Input(1)
    a, b, c, d, e = [Watched(made, alive, name=name) for name in "abcde"]
    network = LayerGraph([(x, [a]), (a, [b, (both := Concatenate())]), (b, [c]), (c, [both]), (both, [d]), (d, [e])])
    result = getattr(network, run)(torch.ones(1, 1))
    assert alive == {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": set(), "e": {"d"}}
    assert result.shape == (1, 2)


@pytest.mark.parametrize("run", ["__call__", "output"])
def test_outputs_are_kept(run):
    made: dict[str, weakref.ref[torch.Tensor]] = {}
    alive: dict[str, set[str]] = {}
    a, b, c = [Watched(made, alive, name=name) for name in "abc"]
    outputs = getattr(Input(1) >> (a | b >> c), run)(torch.ones(1, 1))
    assert alive == {"a": set(), "b": {"a"}, "c": {"a", "b"}}
    assert [output.item() for output in outputs] == [2, 3]


@pytest.mark.parametrize(
    "sources, outputs, steps",
    [
        ({}, [], []),
        ({"x": ()}, ["x"], [("x", ("x",), ())]),
        ({"x": (), "a": ("x",)}, ["a"], [("x", ("x",), ()), ("a", ("x",), ("x",))]),
        ({"x": (), "a": ("x", "x")}, ["a"], [("x", ("x",), ()), ("a", ("x", "x"), ("x",))]),
        (
            {"x": (), "y": (), "a": ("y", "x"), "b": ("x",)},
            ["a", "b"],
            [("x", ("x",), ()), ("y", ("y",), ()), ("a", ("y", "x"), ("y",)), ("b", ("x",), ("x",))],
        ),
    ],
)
def test_plan(sources, outputs, steps):
    assert plan_steps(sources, outputs) == steps
