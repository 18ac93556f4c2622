"""Layers for sequences that carry a state from step to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchneupy import init
from torchneupy.core.properties import NumberProperty, ParameterProperty, Property
from torchneupy.layers.base_recurrent import BaseRNNLayer, for_kernel, keeps_for_gradient, suits_kernels
from torchneupy.layers.sequences import clip_gradient, stack_states

__all__ = ["GRU", "LSTM"]


class LSTM(BaseRNNLayer):
    r"""Long short-term memory.

    For each step :math:`t`, with :math:`\odot` multiplying value by value and the columns of the weights in the order
    input, forget, cell, output:

    .. math::

        i_t &= ingate(x_t W_i + h_{t-1} U_i + b_i) \\
        f_t &= forgetgate(x_t W_f + h_{t-1} U_f + b_f) \\
        g_t &= cell(x_t W_c + h_{t-1} U_c + b_c) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= outgate(x_t W_o + h_{t-1} U_o + b_o) \\
        h_t &= o_t \odot \tanh(c_t)

    Peepholes add :math:`c_{t-1} \odot p_i` and :math:`c_{t-1} \odot p_f` to the arguments of the input and forget gates
    and :math:`c_t \odot p_o` to that of the output gate.

    With torch's own functions, no peepholes and no clipping, one kernel computes the whole sequence, as in
    ``nn.LSTM``; otherwise, and for ``vmap``, forward derivatives and compiled training, a loop does.

    Shapes: input ``(batch, steps, features)``, output ``(batch, n_units)``, or ``(batch, steps, n_units)`` with
    ``only_return_final=False``. A second input, ``(batch,)``, may tell how many steps of each sequence count, from 0 to
    all; the others are padding, and the output at them is zero.

    Parameters
    ----------
    n_units : int
        Number of units.
    only_return_final : bool
        ``True`` gives the state after the last step, ``False`` that after every step. Defaults to ``True``.
    input_weights : Initializer, number, array or tensor
        :math:`W`, ``(features, 4 * n_units)``. Defaults to ``HeNormal()``.
    hidden_weights : Initializer, number, array or tensor
        :math:`U`, ``(n_units, 4 * n_units)``. Defaults to ``HeNormal()``.
    cell_weights : Initializer, number, array or tensor
        The peepholes :math:`p_i, p_f, p_o`, ``(n_units,)`` each; not used without ``peepholes``. Defaults to
        ``HeNormal()``.
    biases : Initializer, number, array or tensor
        :math:`b`, ``(4 * n_units,)``. Defaults to ``0``.
    ingate, forgetgate, outgate : callable
        Functions of the gates. Default to ``torch.sigmoid``.
    cell : callable
        Function of what enters the cell; what leaves it always goes through the hyperbolic tangent. Defaults to
        ``torch.tanh``.
    cell_init, hidden_init : Initializer, number, array or tensor
        States before the first step, ``(1, n_units)``. Default to ``0``.
    learn_init : bool
        Whether ``cell_init`` and ``hidden_init`` are trained. Defaults to ``False``.
    unroll_scan : bool
        Kept for NeuPy's sake: it changes neither what is computed nor how. Defaults to ``False``.
    backwards : bool
        Goes from the last step to the first; the states come out in the order of the steps. Defaults to ``False``.
    peepholes : bool
        Whether the gates see the cell. Defaults to ``False``.
    gradient_clipping : float
        Gradients of the gates' arguments are clipped to this absolute value at every step; ``0`` leaves them. Forward
        derivatives are not clipped. Defaults to ``0``.
    name : str or None
        As in :class:`BaseLayer`.

    Attributes
    ----------
    input_weights, hidden_weights, biases : nn.Parameter or None
        ``None`` until the number of features is known, as those that follow.
    cell_init, hidden_init : nn.Parameter, Tensor or None
        Buffers unless ``learn_init``.
    weight_cell_to_ingate, weight_cell_to_forgetgate, weight_cell_to_outgate : nn.Parameter
        The peepholes, if there are any.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of its range, or a length is less than 0 or more than the steps.
    LayerConnectionError
        When connected to an input that has not three dimensions.
    WeightInitializationError
        When called before it has variables.

    References
    ----------
    Hochreiter, Schmidhuber: Long Short-Term Memory, 1997, https://doi.org/10.1162/neco.1997.9.8.1735;
    Gers, Schraudolph, Schmidhuber: Learning Precise Timing with LSTM Recurrent Networks, 2002,
    https://www.jmlr.org/papers/v3/gers02a.html

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> join(Input((40, 10)), LSTM(20), Sigmoid(1))
    (?, 40, 10) -> [... 3 layers ...] -> (?, 1)

    Sequences of different lengths, padded to the longest:

    >>> import torch
    >>> network = (Input((None, 10)) | Input(())) >> LSTM(20, backwards=True)
    >>> network(torch.rand(3, 7, 10), torch.tensor([7, 2, 5])).shape
    torch.Size([3, 20])
    """

    input_weights = ParameterProperty()
    hidden_weights = ParameterProperty()
    cell_weights = ParameterProperty()
    biases = ParameterProperty()

    ingate = Property(expected_type=Callable)
    forgetgate = Property(expected_type=Callable)
    outgate = Property(expected_type=Callable)
    cell = Property(expected_type=Callable)

    learn_init = Property(expected_type=bool, fixed=True)
    cell_init = ParameterProperty()
    hidden_init = ParameterProperty()

    unroll_scan = Property(expected_type=bool)
    backwards = Property(expected_type=bool)
    peepholes = Property(expected_type=bool, fixed=True)
    gradient_clipping = NumberProperty(minval=0)

    def __init__(
        self,
        n_units: int,
        only_return_final: bool = True,
        input_weights: Any = init.HeNormal(),
        hidden_weights: Any = init.HeNormal(),
        cell_weights: Any = init.HeNormal(),
        biases: Any = 0,
        ingate: Callable[[Any], Any] = torch.sigmoid,
        forgetgate: Callable[[Any], Any] = torch.sigmoid,
        outgate: Callable[[Any], Any] = torch.sigmoid,
        cell: Callable[[Any], Any] = torch.tanh,
        cell_init: Any = 0,
        hidden_init: Any = 0,
        learn_init: bool = False,
        unroll_scan: bool = False,
        backwards: bool = False,
        peepholes: bool = False,
        gradient_clipping: float = 0,
        name: str | None = None,
    ) -> None:
        self.specify(
            input_weights=input_weights,
            hidden_weights=hidden_weights,
            cell_weights=cell_weights,
            biases=biases,
            ingate=ingate,
            forgetgate=forgetgate,
            outgate=outgate,
            cell=cell,
            cell_init=cell_init,
            hidden_init=hidden_init,
            learn_init=learn_init,
            unroll_scan=unroll_scan,
            backwards=backwards,
            peepholes=peepholes,
            gradient_clipping=gradient_clipping,
        )
        super().__init__(n_units=n_units, only_return_final=only_return_final, name=name)

    def create_variables(self, input_shape: Any, lengths_shape: Any = None) -> None:
        n_features, n_units = self.count_features(input_shape), self.n_units
        self.variable(None, "input_weights", shape=(n_features, 4 * n_units))
        self.variable(None, "hidden_weights", shape=(n_units, 4 * n_units))
        self.variable(None, "biases", shape=(4 * n_units,))
        self.variable(None, "cell_init", shape=(1, n_units), trainable=self.learn_init)
        self.variable(None, "hidden_init", shape=(1, n_units), trainable=self.learn_init)
        if self.peepholes:
            cell_weights = self._option("cell_weights")
            for gate in ("ingate", "forgetgate", "outgate"):
                self.variable(cell_weights, f"weight_cell_to_{gate}", shape=(n_units,))

    def _fits_kernel(self, input: Any) -> bool:
        if self.peepholes or self.gradient_clipping or self.cell is not torch.tanh:
            return False
        if not all(gate is torch.sigmoid for gate in (self.ingate, self.forgetgate, self.outgate)):
            return False
        # Compilers have no gradient of the CPU's kernel.
        trains = torch.compiler.is_compiling() and torch.is_grad_enabled() and not torch.compiler.is_exporting()
        return not trains and suits_kernels(input.shape[1])

    def _run_kernel(self, input: Any) -> tuple[Any, Any]:
        biases = self.biases
        hidden, cell = (self.begin(state, input)[None].contiguous() for state in (self.hidden_init, self.cell_init))
        # Contiguous, because the kernel's gradient takes half as long again with transposed ones.
        matrices = [self.input_weights.T.contiguous(), self.hidden_weights.T.contiguous()]
        weights = for_kernel(input, [*matrices, biases, torch.zeros_like(biases)])
        trains = keeps_for_gradient(input)
        states, final, _ = torch.lstm(input, (hidden, cell), weights, True, 1, 0.0, trains, False, True)
        return states, final[0]

    def _loop(self, input: Any) -> tuple[Any, Any]:
        clipping, peepholes = self.gradient_clipping, self.peepholes
        hidden, cell = self.begin(self.hidden_init, input), self.begin(self.cell_init, input)
        hidden_weights = self.hidden_weights
        states = []
        for step in (input @ self.input_weights + self.biases).unbind(1):
            arguments = clip_gradient(torch.addmm(step, hidden, hidden_weights), clipping)
            ingate, forgetgate, entering, outgate = arguments.chunk(4, dim=1)
            if peepholes:
                ingate = ingate + cell * self.weight_cell_to_ingate
                forgetgate = forgetgate + cell * self.weight_cell_to_forgetgate
            cell = self.forgetgate(forgetgate) * cell + self.ingate(ingate) * self.cell(entering)
            if peepholes:
                outgate = outgate + cell * self.weight_cell_to_outgate
            hidden = self.outgate(outgate) * torch.tanh(cell)
            states.append(hidden)
        return stack_states(states, hidden), hidden


def as_kernel_has_it(variable: Any) -> Any:
    """A variable of GRU as torch's kernel wants it: transposed, and with the other sign for the update gate.

    The kernel's gate says how much of the state is kept, NeuPy's how much of it is replaced; and
    ``1 - sigmoid(x) = sigmoid(-x)``.
    """
    reset, update, entering = variable.movedim(-1, 0).chunk(3)
    return torch.cat((reset, update.neg(), entering))


class GRU(BaseRNNLayer):
    r"""Gated recurrent unit.

    For each step :math:`t`, with :math:`\odot` multiplying value by value and the columns of the weights in the order
    reset, update, hidden:

    .. math::

        r_t &= resetgate(x_t W_r + b_r + h_{t-1} U_r) \\
        u_t &= updategate(x_t W_u + b_u + h_{t-1} U_u) \\
        c_t &= hidden\_update(x_t W_c + b_c + r_t \odot (h_{t-1} U_c)) \\
        h_t &= (1 - u_t) \odot h_{t-1} + u_t \odot c_t

    With torch's own functions and no clipping, one kernel computes the whole sequence, as in ``nn.GRU``; otherwise, and
    for ``vmap`` and forward derivatives, a loop does.

    Shapes as in :class:`LSTM`, the second input too.

    Parameters
    ----------
    n_units : int
        Number of units.
    only_return_final : bool
        ``True`` gives the state after the last step, ``False`` that after every step. Defaults to ``True``.
    input_weights : Initializer, number, array or tensor
        :math:`W`, ``(features, 3 * n_units)``. Defaults to ``HeNormal()``.
    hidden_weights : Initializer, number, array or tensor
        :math:`U`, ``(n_units, 3 * n_units)``. Defaults to ``HeNormal()``.
    biases : Initializer, number, array or tensor
        :math:`b`, ``(3 * n_units,)``. Defaults to ``0``.
    resetgate, updategate : callable
        Functions of the gates. Default to ``torch.sigmoid``.
    hidden_update : callable
        Function of what enters the state. Defaults to ``torch.tanh``.
    hidden_init : Initializer, number, array or tensor
        State before the first step, ``(1, n_units)``. Defaults to ``0``.
    learn_init : bool
        Whether ``hidden_init`` is trained. Defaults to ``False``.
    unroll_scan, backwards
        As in :class:`LSTM`.
    gradient_clipping : float
        Gradients of the products with the weights, and of the argument of ``hidden_update``, are clipped to this
        absolute value at every step; ``0`` leaves them. Forward derivatives are not clipped. Defaults to ``0``.
    name : str or None
        As in :class:`BaseLayer`.

    Attributes
    ----------
    input_weights, hidden_weights, biases : nn.Parameter or None
        ``None`` until the number of features is known, as ``hidden_init``.
    hidden_init : nn.Parameter, Tensor or None
        A buffer unless ``learn_init``.

    Raises
    ------
    TypeError, ValueError, LayerConnectionError, WeightInitializationError
        As in :class:`LSTM`.

    References
    ----------
    Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio: Learning Phrase Representations using RNN
    Encoder-Decoder for Statistical Machine Translation, 2014, https://arxiv.org/abs/1406.1078. The reset gate is
    applied after the product with the hidden weights, as in version 1 of the paper and in cuDNN.

    Examples
    --------
    >>> from torchneupy.layers import *
    >>> join(Input((40, 10)), GRU(20, only_return_final=False), GRU(20), Sigmoid(1))
    (?, 40, 10) -> [... 4 layers ...] -> (?, 1)
    """

    input_weights = ParameterProperty()
    hidden_weights = ParameterProperty()
    biases = ParameterProperty()

    resetgate = Property(expected_type=Callable)
    updategate = Property(expected_type=Callable)
    hidden_update = Property(expected_type=Callable)

    hidden_init = ParameterProperty()
    learn_init = Property(expected_type=bool, fixed=True)

    backwards = Property(expected_type=bool)
    unroll_scan = Property(expected_type=bool)
    gradient_clipping = NumberProperty(minval=0)

    def __init__(
        self,
        n_units: int,
        only_return_final: bool = True,
        input_weights: Any = init.HeNormal(),
        hidden_weights: Any = init.HeNormal(),
        biases: Any = 0,
        resetgate: Callable[[Any], Any] = torch.sigmoid,
        updategate: Callable[[Any], Any] = torch.sigmoid,
        hidden_update: Callable[[Any], Any] = torch.tanh,
        hidden_init: Any = 0,
        learn_init: bool = False,
        unroll_scan: bool = False,
        backwards: bool = False,
        gradient_clipping: float = 0,
        name: str | None = None,
    ) -> None:
        self.specify(
            input_weights=input_weights,
            hidden_weights=hidden_weights,
            biases=biases,
            resetgate=resetgate,
            updategate=updategate,
            hidden_update=hidden_update,
            hidden_init=hidden_init,
            learn_init=learn_init,
            unroll_scan=unroll_scan,
            backwards=backwards,
            gradient_clipping=gradient_clipping,
        )
        super().__init__(n_units=n_units, only_return_final=only_return_final, name=name)

    def create_variables(self, input_shape: Any, lengths_shape: Any = None) -> None:
        n_features, n_units = self.count_features(input_shape), self.n_units
        self.variable(None, "input_weights", shape=(n_features, 3 * n_units))
        self.variable(None, "hidden_weights", shape=(n_units, 3 * n_units))
        self.variable(None, "biases", shape=(3 * n_units,))
        self.variable(None, "hidden_init", shape=(1, n_units), trainable=self.learn_init)

    def _fits_kernel(self, input: Any) -> bool:
        if self.gradient_clipping or self.hidden_update is not torch.tanh:
            return False
        if self.resetgate is not torch.sigmoid or self.updategate is not torch.sigmoid:
            return False
        return suits_kernels(input.shape[1])

    def _run_kernel(self, input: Any) -> tuple[Any, Any]:
        variables = [as_kernel_has_it(one) for one in (self.input_weights, self.hidden_weights, self.biases)]
        weights = for_kernel(input, [*variables, torch.zeros_like(variables[2])])
        hidden = self.begin(self.hidden_init, input)[None].contiguous()
        # The steps before the batch, as the kernel works: else torch multiplies each step on its own if the weights
        # want no gradient, in twice the time.
        by_steps = input.transpose(0, 1).contiguous()
        states, final = torch.gru(by_steps, hidden, weights, True, 1, 0.0, keeps_for_gradient(input), False, False)
        return states.transpose(0, 1), final[0]

    def _loop(self, input: Any) -> tuple[Any, Any]:
        clipping, hidden_weights = self.gradient_clipping, self.hidden_weights
        hidden = self.begin(self.hidden_init, input)
        states = []
        for step in clip_gradient(input @ self.input_weights + self.biases, clipping).unbind(1):
            reset, update, entering = step.chunk(3, dim=1)
            product = clip_gradient(hidden @ hidden_weights, clipping)
            reset_product, update_product, entering_product = product.chunk(3, dim=1)
            gate = self.resetgate(reset + reset_product)
            share = self.updategate(update + update_product)
            candidate = self.hidden_update(clip_gradient(entering + gate * entering_product, clipping))
            hidden = hidden - share * (hidden - candidate)
            states.append(hidden)
        return stack_states(states, hidden), hidden
