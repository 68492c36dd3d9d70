"""What the gates of an LSTM do, step by step."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from claimwise.recurrent.lstm import LSTM
from claimwise.recurrent.packed_rows import PackedRows
from claimwise.recurrent.recurrence import Trace
from claimwise.recurrent.sequence_lengths import Lengths


def gate_activity(
    lstm: LSTM,
    input: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None = None,
    *,
    lengths: Lengths | None = None,
) -> list[dict[str, Tensor]]:
    r"""Gates, candidates and cells of every layer and direction.

    Args:
        lstm: The layers to read, used as they are: in training mode dropout between layers acts.
        input: As :class:`LSTM` takes it.
        hx: Initial states.
        lengths: Steps of each sequence.

    Shape:
        A list of num_layers * directions dictionaries (layer by layer, forward before reverse) of ``"input"``,
        ``"forget"``, ``"output"`` (gates, which the cells of a block share; one that the variant lacks reads 1, a
        coupled forget gate 1 - i), ``"candidate"`` (z) and ``"cell"`` (c), each (time, batch, hidden_size) whatever
        ``batch_first``, (time, hidden_size) for unbatched input; step t is that of the input also in the reverse
        direction; 0 after a sequence's end. They are part of autograd's graph; use ``torch.no_grad()`` to only look.

    Raises:
        TypeError, ValueError: what :class:`LSTM` refuses.

    Differences from the paper:
        none; the paper shows no activities.

    Example:
        >>> import torch
        >>> lstm = LSTM(3, 5, variant="NFG")
        >>> activity, = gate_activity(lstm, torch.zeros(7, 2, 3))
        >>> activity["forget"].unique().item(), activity["input"].shape
        (1.0, torch.Size([7, 2, 5]))
    """
    if not isinstance(lstm, LSTM):
        raise TypeError(f"gate_activity: lstm must be a claimwise.recurrent.LSTM, got {type(lstm).__name__}")
    traces: list[tuple[Trace, PackedRows]] = []
    lstm._recur(input, hx, lengths, traces)
    if isinstance(input, PackedSequence):
        order, steps, batched = input.sorted_indices, len(input.batch_sizes), True
    else:
        order, batched = None, input.ndim == 3
        steps = input.shape[1] if batched and lstm.batch_first else input.shape[0]
        rows = traces[0][1]
        if not rows.equal and lengths is not None:
            found = torch.as_tensor(lengths).flatten().tolist()
            order = torch.tensor(sorted(range(len(found)), key=lambda k: -found[k]), device=input.device)
    activities = []
    for index, (trace, rows) in enumerate(traces):
        activity = {}
        for name in trace[0]:
            values = torch.cat([step[name] for step in trace])
            if lstm.bidirectional and index % 2:
                values = rows.reverse(values)
            padded = rows.pad(values, order, steps)
            activity[name] = padded if batched else padded.squeeze(1)
        activities.append(activity)
    return activities
