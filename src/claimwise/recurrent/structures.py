r"""The five structures of input and output: one or many steps on either side, around any recurrent network.

A. Karpathy, *The Unreasonable Effectiveness of Recurrent Neural Networks*, 2015,
https://karpathy.github.io/2015/05/21/rnn-effectiveness/, first figure. The asynchronous one, with an encoder and a
decoder, is that of I. Sutskever, O. Vinyals, Q. V. Le, NIPS 2014, https://arxiv.org/abs/1409.3215, and K. Cho et al.,
EMNLP 2014, https://arxiv.org/abs/1406.1078.

A *core* is a recurrent network with ``batch_first=True``: ``LSTM``, ``GRU``, ``RNN`` and ``GatedFeedback`` of this
package, those of ``torch.nn``, or another module (input, state, lengths=) -> (output, state) with ``input_size`` and
``hidden_size``.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from claimwise.recurrent.sequence_lengths import Lengths, checked_sequences, valid_steps
from claimwise.undisturbed import undisturbed

State = Tensor | tuple[Tensor, ...]


def _check_core(name: str, what: str, core: nn.Module) -> None:
    if not isinstance(core, nn.Module) or not all(hasattr(core, size) for size in ("input_size", "hidden_size")):
        raise TypeError(
            f"{name}: {what} must be a recurrent module with input_size and hidden_size, got {type(core).__name__}"
        )
    if not getattr(core, "batch_first", False):
        raise ValueError(f"{name}: {what} must be batch-first; build it with batch_first=True, got {core}")


def _directions(core: nn.Module) -> int:
    return 2 if getattr(core, "bidirectional", False) else 1


def _features(core: Any) -> int:
    """Size of a core's output at one step."""
    return _directions(core) * (getattr(core, "proj_size", 0) or core.hidden_size)


def _run(
    core: nn.Module, x: Tensor, state: State | None, lengths: Int[Tensor, " batch"] | None
) -> tuple[Float[Tensor, "batch time features"], State]:
    """Outputs, 0 beyond lengths, and the state at the lengths."""
    if lengths is None:
        return core(x, state)
    if not isinstance(core, nn.RNNBase):
        return core(x, state, lengths=lengths)
    packed, state = core(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False), state)
    return pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])[0], state


def _summary(core: nn.Module, state: State) -> Float[Tensor, "batch features"]:
    """The last state of the top layer, both directions beside each other."""
    hidden = state if isinstance(state, Tensor) else state[0]
    return torch.cat(hidden[-_directions(core) :].unbind(), dim=1)


def _readout(name: str, features: int, outputs: int, device: Any, dtype: Any) -> nn.Linear:
    if outputs < 1:
        raise ValueError(f"{name}: outputs must be at least 1, got {outputs}")
    return nn.Linear(features, outputs, device=device, dtype=dtype)


class _AroundCore(nn.Module):
    """A core and a linear readout of its output."""

    def __init__(
        self,
        core: nn.Module,
        outputs: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check_core(name, "core", core)
        self.core: Any = core
        self.readout = _readout(name, _features(core), outputs, device, dtype)

    def _checked(self, x: Tensor, lengths: Lengths | None) -> tuple[Tensor, Int[Tensor, " batch"] | None]:
        return checked_sequences(type(self).__name__, "x", x, self.core.input_size, lengths)

    def _all_steps(self, x: Tensor, lengths: Int[Tensor, " batch"] | None) -> Tensor:
        return _masked(self.readout(_run(self.core, x, None, lengths)[0]), lengths)


def _masked(y: Tensor, lengths: Int[Tensor, " batch"] | None) -> Tensor:
    return y if lengths is None else y * valid_steps(lengths, y.shape[1], y.device).unsqueeze(2)


class OneToOne(nn.Module):
    r"""One input, one output: a network of fixed size, without time.

    .. math:: y = W_{n+1} \tanh(W_n \cdots \tanh(W_1 x + b_1) \cdots + b_n) + b_{n+1}

    Args:
        inputs: Size of x.
        hidden: Width of the hidden layer, or of several.
        outputs: Size of y.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        (batch, inputs) -> (batch, outputs)

    Raises:
        ValueError: a size below 1; on calling, an input of another size.

    Differences from the paper:
        none; the figure says no more than that it is fixed.

    Example:
        >>> import torch
        >>> OneToOne(4, 8, 3)(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        inputs: int,
        hidden: int | Sequence[int],
        outputs: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = [inputs, *([hidden] if isinstance(hidden, int) else hidden), outputs]
        if min(sizes) < 1:
            raise ValueError(f"OneToOne: sizes must be at least 1, got {inputs}, {hidden}, {outputs}")
        self.inputs = inputs
        layers: list[nn.Module] = []
        for size, after in pairwise(sizes):
            layers += [nn.Linear(size, after, device=device, dtype=dtype), nn.Tanh()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise ValueError(f"OneToOne: x must be (batch, {self.inputs}), got shape {tuple(x.shape)}")
        return self.layers(x)


class OneToMany(_AroundCore):
    r"""One input, a sequence of outputs: a caption for an image.

    .. math:: h_1 = f(x, h_0), \qquad h_t = f(0, h_{t-1}) \ \text{for}\ t > 1, \qquad y_t = V h_t + c

    with :math:`f` the core. After the first step the core lives on its state.

    Args:
        core: A recurrent network, batch-first, in one direction.
        outputs: Size of each y.
        device: Where the readout lives.
        dtype: Type of the readout.

    Shape:
        ``x`` (batch, core.input_size), ``steps`` or ``lengths`` (batch) -> (batch, steps, outputs), 0 beyond a length

    Raises:
        TypeError: ``core`` is no recurrent module.
        ValueError: a core that is not batch-first or looks backwards; on calling, an input of another size or not
            finite, neither steps nor lengths, lengths beyond the steps.

    Differences from the paper:
        none; the readout is linear.

    Example:
        >>> import torch
        >>> model = OneToMany(torch.nn.GRU(3, 8, batch_first=True), outputs=5)
        >>> model(torch.eye(3), steps=4).shape
        torch.Size([3, 4, 5])
    """

    def __init__(
        self,
        core: nn.Module,
        outputs: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(core, outputs, device=device, dtype=dtype)
        if _directions(core) == 2:
            raise ValueError(f"OneToMany: the core must look forward only, since all input is at the start, got {core}")

    def forward(
        self, x: Float[Tensor, "batch features"], steps: int | None = None, *, lengths: Lengths | None = None
    ) -> Float[Tensor, "batch time outputs"]:
        if x.ndim != 2:
            raise ValueError(
                f"OneToMany: x must be one input an example, (batch, {self.core.input_size}), "
                f"got shape {tuple(x.shape)}"
            )
        if steps is None:
            if lengths is None:
                raise ValueError("OneToMany: how long the output is to be is not said; give steps= or lengths=")
            steps = int(torch.as_tensor(lengths).max())
        if steps < 1:
            raise ValueError(f"OneToMany: steps must be at least 1, got {steps}")
        x = F.pad(x.unsqueeze(1), (0, 0, 0, steps - 1))  # (batch, steps, features)
        return self._all_steps(*self._checked(x, lengths))


class ManyToOne(_AroundCore):
    r"""A sequence of inputs, one output: the sentiment of a sentence.

    .. math:: h_t = f(x_t, h_{t-1}), \qquad y = V h_T + c

    with :math:`f` the core and :math:`T` each sequence's own length. Of a core in both directions, :math:`h_T` is the
    last state of each beside each other: forward at T, backward at 1.

    Args:
        core: A recurrent network, batch-first.
        outputs: Size of y.
        device: Where the readout lives.
        dtype: Type of the readout.

    Shape:
        ``x`` (batch, time, core.input_size), ``lengths`` (batch) -> (batch, outputs)

    Raises:
        TypeError: ``core`` is no recurrent module.
        ValueError: a core that is not batch-first; on calling, an input of another size or not finite, lengths of 0 or
            beyond the input.

    Differences from the paper:
        none; the readout is linear.

    Example:
        >>> import torch
        >>> model = ManyToOne(torch.nn.LSTM(3, 8, batch_first=True), outputs=2)
        >>> x = torch.randn(2, 5, 3)
        >>> torch.allclose(model(x, lengths=[5, 2])[1], model(x[1:, :2])[0], atol=1e-6)
        True
    """

    def forward(
        self, x: Float[Tensor, "batch time features"], *, lengths: Lengths | None = None
    ) -> Float[Tensor, "batch outputs"]:
        x, found = self._checked(x, lengths)
        return self.readout(_summary(self.core, _run(self.core, x, None, found)[1]))


class ManyToMany(_AroundCore):
    r"""A sequence of inputs, an output at each step: the label of every frame of a video.

    .. math:: h_t = f(x_t, h_{t-1}), \qquad y_t = V h_t + c

    with :math:`f` the core.

    Args:
        core: A recurrent network, batch-first.
        outputs: Size of each y.
        device: Where the readout lives.
        dtype: Type of the readout.

    Shape:
        ``x`` (batch, time, core.input_size), ``lengths`` (batch) -> (batch, time, outputs), 0 beyond a length

    Raises:
        TypeError: ``core`` is no recurrent module.
        ValueError: a core that is not batch-first; on calling, an input of another size or not finite, lengths of 0 or
            beyond the input.

    Differences from the paper:
        none; the readout is linear.

    Example:
        >>> import torch
        >>> model = ManyToMany(torch.nn.RNN(3, 8, batch_first=True), outputs=2)
        >>> model(torch.zeros(4, 6, 3), lengths=[6, 5, 2, 1]).shape
        torch.Size([4, 6, 2])
    """

    def forward(
        self, x: Float[Tensor, "batch time features"], *, lengths: Lengths | None = None
    ) -> Float[Tensor, "batch time outputs"]:
        return self._all_steps(*self._checked(x, lengths))


class EncoderDecoder(nn.Module):
    r"""A sequence of inputs, then a sequence of outputs of another length: translation.

    .. math::
        h_t = f(x_t, h_{t-1}), \ t \le T, \qquad s_0 = h_T, \quad s_u = g(z_u, s_{u-1}), \quad y_u = V s_u + c

    with :math:`f` the encoder, :math:`g` the decoder, whose first state is the encoder's last, and :math:`z` the
    decoder's input: in training the target one step late (*teacher forcing*), in :meth:`generate` what it said before.

    Args:
        encoder: A recurrent network, batch-first.
        decoder: One whose state has the same form: same kind of cell, layers and hidden size; forward only.
        outputs: Size of each y.
        device: Where the readout lives.
        dtype: Type of the readout.

    Shape:
        ``source`` (batch, time, encoder.input_size), ``target_input`` (batch, steps, decoder.input_size), ``lengths``
        of sources (batch), ``target_lengths`` (batch) -> (batch, steps, outputs), 0 beyond a target's length

    Raises:
        TypeError: encoder or decoder is no recurrent module.
        ValueError: one that is not batch-first or looks backwards; on calling, states of different forms, inputs of
            other sizes or not finite, lengths of 0 or beyond the input.

    Differences from the paper:
        Sutskever et al. reverse the source and stop at an end token; here the caller does (``source.flip(1)``,
        ``steps``). Cho et al. also feed the summary to every step of the decoder; here it is the first state only.

    Example:
        >>> import torch
        >>> encoder, decoder = (torch.nn.GRU(size, 8, batch_first=True) for size in (3, 4))
        >>> model = EncoderDecoder(encoder, decoder, outputs=4)
        >>> source, target_input = torch.randn(2, 5, 3), torch.zeros(2, 6, 4)
        >>> model(source, target_input, lengths=[5, 3]).shape
        torch.Size([2, 6, 4])
        >>> model.generate(source, steps=7, start=torch.eye(4)[0]).shape
        torch.Size([2, 7, 4])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        outputs: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for what, core in (("encoder", encoder), ("decoder", decoder)):
            _check_core("EncoderDecoder", what, core)
            if _directions(core) == 2:
                raise ValueError(f"EncoderDecoder: the {what} must look forward only, got {core}")
        given, taken = _state_shapes(encoder), _state_shapes(decoder)
        if given != taken:
            raise ValueError(
                "EncoderDecoder: the encoder's last state must fit the decoder's first, for one example "
                f"{taken}, got {given}; use the same kind of cell, num_layers and hidden_size"
            )
        self.encoder: Any = encoder
        self.decoder: Any = decoder
        self.readout = _readout("EncoderDecoder", _features(decoder), outputs, device, dtype)

    def _encoded(self, source: Tensor, lengths: Lengths | None) -> State:
        source, found = checked_sequences("EncoderDecoder", "source", source, self.encoder.input_size, lengths)
        return _run(self.encoder, source, None, found)[1]

    def forward(
        self,
        source: Float[Tensor, "batch time features"],
        target_input: Float[Tensor, "batch steps fed"],
        *,
        lengths: Lengths | None = None,
        target_lengths: Lengths | None = None,
    ) -> Float[Tensor, "batch steps outputs"]:
        target_input, found = checked_sequences(
            "EncoderDecoder", "target_input", target_input, self.decoder.input_size, target_lengths
        )
        y = self.readout(_run(self.decoder, target_input, self._encoded(source, lengths), found)[0])
        return _masked(y, found)

    def generate(
        self,
        source: Float[Tensor, "batch time features"],
        steps: int,
        start: Float[Tensor, "*batch fed"],
        *,
        lengths: Lengths | None = None,
        feedback: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "batch steps outputs"]:
        r"""Outputs of which each is made from the one before.

        .. math:: z_1 = \text{start}, \qquad z_{u+1} = \text{feedback}(y_u)

        Args:
            source: Input of the encoder.
            steps: How many outputs.
            start: First input of the decoder, for all examples or for each.
            lengths: Of the sources.
            feedback: Decoder's next input from an output (batch, outputs); by default the largest output as one-hot
                (greedy choice among classes), for which the decoder must take as many inputs as there are outputs.

        Shape:
            ``source`` (batch, time, encoder.input_size), ``start`` (decoder.input_size) or (batch,
            decoder.input_size) -> (batch, steps, outputs)

        Raises:
            ValueError: no steps, a start of another size or not finite, no feedback where sizes differ; sources and
                lengths as on calling.

        Differences from the paper:
            greedy; Sutskever et al. keep a beam.

        Example:
            >>> import torch
            >>> cores = (torch.nn.RNN(1, 4, batch_first=True) for _ in range(2))
            >>> model = EncoderDecoder(*cores, outputs=1)
            >>> model.generate(torch.zeros(2, 3, 1), 5, torch.zeros(1), feedback=lambda y: y).shape
            torch.Size([2, 5, 1])
        """
        if steps < 1:
            raise ValueError(f"EncoderDecoder: steps must be at least 1, got {steps}")
        size = self.decoder.input_size
        if feedback is None:
            if self.readout.out_features != size:
                raise ValueError(
                    f"EncoderDecoder: {self.readout.out_features} outputs cannot be fed back as one-hot to a decoder "
                    f"of {size} inputs; give feedback="
                )
            feedback = _one_hot_of_largest
        if start.shape not in ((size,), (len(source), size)):
            raise ValueError(
                f"EncoderDecoder: start must be ({size},) or ({len(source)}, {size}), got shape {tuple(start.shape)}"
            )
        z = start.expand(len(source), -1)
        checked_sequences("EncoderDecoder", "start", z.unsqueeze(1), size)
        state = self._encoded(source, lengths)
        said = []
        for _ in range(steps):
            output, state = self.decoder(z.unsqueeze(1), state)
            said.append(self.readout(output[:, 0]))
            z = feedback(said[-1])
        return torch.stack(said, 1)


def _one_hot_of_largest(y: Float[Tensor, "batch outputs"]) -> Float[Tensor, "batch outputs"]:
    return F.one_hot(y.argmax(1), y.shape[1]).to(y.dtype)


@torch.no_grad()
def _state_shapes(core: Any) -> list[tuple[int, ...]]:
    """Shapes of a core's state for one example."""
    weight = next(core.parameters())
    with undisturbed(core):
        state = core(weight.new_zeros(1, 1, core.input_size), None)[1]
    return [tuple(part.shape) for part in ([state] if isinstance(state, Tensor) else state)]
