r"""All steps of a gated-feedback stack forward, all steps backward: what :class:`GatedFeedback` computes, and how fast.

J. Chung, C. Gulcehre, K. Cho, Y. Bengio, *Gated Feedback Recurrent Neural Networks*, ICML 2015, section 3,
https://arxiv.org/abs/1502.02367. How it is computed is ours. :func:`step_by_step` is the version to read, by ordinary
operations; :class:`Sweep` is the same as one node of autograd's graph. There the slopes of all point-wise functions are
taken for all steps at once, only what waits for the next step's gradient goes step by step, and gradients of weights
are products over all steps.

Rows of ``recurrent`` (layers, rows, hidden), for each feeding layer: feedback to every layer, the gates of its own
cell, then the logits of all global gates (by fed, then feeding layer). Rows of a layer's vertical map: the gates of its
cell, its candidate, the logits of the global gates to it. Sequences come longest first; ``sizes[t]`` of them reach step
t.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from claimwise.recurrent.recurrence import gradients_with_a_graph, needs_a_graph

CELLS = {"tanh": 0, "gru": 2, "lstm": 3}
"""Gates of each cell: reset, update; input, forget, output."""


class Form(NamedTuple):
    """What does not change from call to call."""

    cell: str
    layers: int
    hidden: int
    gated: bool

    @property
    def own(self) -> slice:
        """Rows of the cell's own gates in ``recurrent``."""
        return slice(self.layers * self.hidden, (self.layers + CELLS[self.cell]) * self.hidden)

    @property
    def logits(self) -> slice:
        """Rows of the global gates in ``recurrent``."""
        return slice(self.own.stop, self.own.stop + (self.layers**2 if self.gated else 0))

    @property
    def feedback(self) -> list[slice]:
        """Rows of the feedback to each layer in ``recurrent``."""
        return [slice(j * self.hidden, (j + 1) * self.hidden) for j in range(self.layers)]

    @property
    def to(self) -> list[slice]:
        """The global gates to each layer among all of them."""
        return [slice(j * self.layers, (j + 1) * self.layers) for j in range(self.layers)]


def _next(cell: str, pre: Tensor, own: Tensor, feedback: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One layer's next state; ``pre`` holds the gates' blocks, then the candidate's."""
    size = feedback.shape[1]
    if cell == "tanh":
        return torch.tanh(pre + feedback), c
    gates = torch.sigmoid(pre[:, :-size] + own).chunk(CELLS[cell], 1)
    if cell == "gru":
        reset, update = gates
        candidate = torch.tanh(pre[:, -size:] + reset * feedback)
        return candidate + update * (h - candidate), c
    keep_in, forget, out = gates
    c = forget * c + keep_in * torch.tanh(pre[:, -size:] + feedback)
    return out * torch.tanh(c), c


def step_by_step(
    form: Form,
    sizes: list[int],
    x: Tensor,
    h: Tensor,
    c: Tensor,
    recurrent: Tensor,
    vertical: tuple[Tensor, ...],
    bias: tuple[Tensor | None, ...],
    trace: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The top layer's states (time, batch, hidden) and the last states; ``trace`` gets the gates layer by layer."""
    layers, width = form.layers, (CELLS[form.cell] + 1) * form.hidden
    first = F.linear(x, vertical[0], bias[0])  # (time, batch, rows)
    inward = recurrent.transpose(1, 2)
    outputs = []
    for t, n in enumerate(sizes):  # n sequences reach step t, the first ones
        reached = torch.bmm(h[:, :n], inward)  # (feeding layer, n, rows)
        logits = reached[:, :, form.logits].sum(0)
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        for j in range(layers):
            pre = first[t, :n] if j == 0 else F.linear(hidden[-1], vertical[j], bias[j])
            fed = reached[:, :, form.feedback[j]]
            gates = pre.new_ones(n, layers)
            if form.gated:
                gates = torch.sigmoid(pre[:, width:] + logits[:, form.to[j]])
                fed = fed * gates.t().unsqueeze(2)
            if trace is not None:
                trace.append(F.pad(gates, (0, 0, 0, sizes[0] - n)))
            new_h, new_c = _next(form.cell, pre[:, :width], reached[j, :, form.own], fed.sum(0), h[j, :n], c[j, :n])
            hidden.append(new_h.to(h.dtype))
            cells.append(new_c.to(c.dtype))
        h = torch.cat([torch.stack(hidden), h[:, n:]], 1)
        c = torch.cat([torch.stack(cells), c[:, n:]], 1)
        outputs.append(h[-1])
    return torch.stack(outputs), h, c


class Sweep(torch.autograd.Function):
    """The same; buffers are (layers, time, batch, ...), so that products over all steps need no copies."""

    @staticmethod
    def forward(
        ctx: Any,
        form: Form,
        sizes: list[int],
        keep: bool,
        x: Tensor,
        h: Tensor,
        c: Tensor,
        recurrent: Tensor,
        *maps: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        vertical, bias = maps[: form.layers], maps[form.layers :]
        (time, batch, _), layers, size = x.shape, form.layers, form.hidden
        own_width = CELLS[form.cell] * size
        width = own_width + size
        kept = time if keep else 1
        feedback_rows, to_rows, own_rows, logit_rows = form.feedback, form.to, form.own, form.logits
        hs = x.new_empty(layers, time + 1, batch, size)
        hs[:, 0] = h
        cs = x.new_empty(layers, time + 1, batch, size) if form.cell == "lstm" else None
        if cs is not None:
            cs[:, 0] = c
        # What is fed back, and of every layer the activations of its gates and candidate and the global gates to it.
        reached = x.new_empty(layers, kept, batch, recurrent.shape[1])
        acts = [F.linear(x, vertical[0], bias[0])]
        acts += [x.new_empty(kept, batch, len(weight)) for weight in vertical[1:]]
        feedback = x.new_empty(layers, kept, batch, size) if form.cell == "gru" else None
        inward = recurrent.transpose(1, 2)
        upward = [weight.t() for weight in vertical]
        scratch = x.new_empty(batch, size)
        for t, n in enumerate(sizes):
            k = t if keep else 0
            if n < batch:
                hs[:, t + 1, n:] = hs[:, t, n:]
                if cs is not None:
                    cs[:, t + 1, n:] = cs[:, t, n:]
            last, made = hs[:, t, :n], hs[:, t + 1, :n]
            back = reached[:, k, :n]
            torch.bmm(last, inward, out=back)
            logits = back[:, :, logit_rows].sum(0)
            for j in range(layers):
                act = acts[j][t if j == 0 else k, :n]
                if j:
                    if bias[j] is None:
                        torch.mm(made[j - 1], upward[j], out=act)
                    else:
                        torch.addmm(bias[j], made[j - 1], upward[j], out=act)
                fed = back[:, :, feedback_rows[j]]
                if form.gated:
                    gates = act[:, width:].add_(logits[:, to_rows[j]]).sigmoid_()
                    fed = fed * gates.t().unsqueeze(2)
                candidate = act[:, own_width:width]
                if form.cell == "tanh":
                    torch.sum(fed, 0, out=scratch[:n])
                    torch.add(candidate, scratch[:n], out=made[j]).tanh_()
                    continue
                own = act[:, :own_width].add_(back[j, :, own_rows]).sigmoid_()
                if feedback is not None:
                    total = feedback[j, k, :n]
                    torch.sum(fed, 0, out=total)
                    candidate.addcmul_(own[:, :size], total).tanh_()
                    torch.lerp(candidate, last[j], own[:, size:], out=made[j])
                elif cs is not None:
                    torch.sum(fed, 0, out=scratch[:n])
                    candidate.add_(scratch[:n]).tanh_()
                    cell = cs[j, t + 1, :n]
                    torch.mul(own[:, size : 2 * size], cs[j, t, :n], out=cell)
                    cell.addcmul_(own[:, :size], candidate)
                    torch.tanh(cell, out=made[j]).mul_(own[:, 2 * size :])
        if keep:
            ctx.form, ctx.sizes = form, sizes
            ctx.save_for_backward(x, h, c, recurrent, *maps, hs, cs, reached, feedback, *acts)
        return hs[-1, 1:].clone(), hs[:, -1].clone(), c.clone() if cs is None else cs[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        with torch.autocast(grads[0].device.type, enabled=False):  # whatever it is called within
            return Sweep._backward(ctx, *grads)

    @staticmethod
    def _backward(ctx: Any, grad: Tensor, grad_h: Tensor, grad_c: Tensor) -> tuple[Any, ...]:
        form, sizes = ctx.form, ctx.sizes
        layers, size = form.layers, form.hidden
        x, h, c, recurrent, *saved = ctx.saved_tensors
        maps, (hs, cs, reached, feedback, *acts) = saved[: 2 * layers], saved[2 * layers :]
        vertical = maps[:layers]
        if needs_a_graph((grad, grad_h, grad_c)):

            def by_steps(
                x: Tensor, h: Tensor, c: Tensor, recurrent: Tensor, *maps: Any
            ) -> tuple[Tensor, Tensor, Tensor]:
                return step_by_step(form, sizes, x, h, c, recurrent, maps[:layers], maps[layers:])

            given, needs = (x, h, c, recurrent, *maps), ctx.needs_input_grad[3:]
            return None, None, None, *gradients_with_a_graph(by_steps, given, needs, (grad, grad_h, grad_c))
        time, batch, _ = x.shape
        own_width = CELLS[form.cell] * size
        width = own_width + size
        blank = (
            torch.empty_like if sizes[-1] == sizes[0] else torch.zeros_like
        )  # where no sequence is there is no gradient
        d_reached = blank(reached)
        d_acts = [blank(act) for act in acts]
        slopes, gate_slopes = _slopes(form, hs, cs, feedback, acts)
        dh, dc = grad_h.clone(), grad_c.clone()
        feedback_rows, to_rows, own_rows, logit_rows = form.feedback, form.to, form.own, form.logits
        d_logits, scratch = x.new_empty(batch, layers * layers), x.new_empty(batch, size)
        for t, n in reversed(list(enumerate(sizes))):
            back, d_back = reached[:, t, :n], d_reached[:, t, :n]
            dh[-1, :n] += grad[t, :n]
            for j in range(layers - 1, -1, -1):
                act, d_act, slope = acts[j][t, :n], d_acts[j][t, :n], slopes[j]
                g = dh[j, :n]
                d_feedback = d_candidate = d_act[:, own_width:width]
                # Into the gradient before each activation; g becomes what goes to the step before past all products.
                if form.cell == "tanh":
                    torch.mul(g, slope[0][t, :n], out=d_candidate)
                    g.zero_()
                elif form.cell == "gru":
                    torch.mul(g, slope[0][t, :n], out=d_candidate)
                    torch.mul(g, slope[1][t, :n], out=d_act[:, size:own_width])
                    torch.mul(d_candidate, slope[2][t, :n], out=d_act[:, :size])
                    d_feedback = torch.mul(d_candidate, act[:, :size], out=scratch[:n])
                    g.mul_(act[:, size:own_width])
                else:
                    d_cell = dc[j, :n].addcmul_(g, slope[0][t, :n])
                    torch.mul(g, slope[1][t, :n], out=d_act[:, 2 * size : own_width])
                    torch.mul(d_cell, slope[2][t, :n], out=d_act[:, :size])
                    torch.mul(d_cell, slope[3][t, :n], out=d_act[:, size : 2 * size])
                    torch.mul(d_cell, slope[4][t, :n], out=d_candidate)
                    d_cell.mul_(act[:, size : 2 * size])
                    g.zero_()
                d_fed = d_back[:, :, feedback_rows[j]]
                if form.gated:
                    torch.mul(back[:, :, feedback_rows[j]], d_feedback, out=d_fed)  # by the gates, summed next
                    torch.mul(d_fed.sum(2).t(), gate_slopes[j][t, :n], out=d_act[:, width:])
                    d_logits[:n, to_rows[j]] = d_act[:, width:]
                    torch.mul(act[:, width:].t().unsqueeze(2), d_feedback, out=d_fed)
                else:
                    d_fed.copy_(d_feedback)
                if own_width:
                    d_back[j, :, own_rows] = d_act[:, :own_width]
                if j:
                    dh[j - 1, :n].addmm_(d_act, vertical[j])
            if form.gated:
                d_back[:, :, logit_rows] = d_logits[:n]
            dh[:, :n].baddbmm_(d_back, recurrent)
        needs = ctx.needs_input_grad[3:]
        steps = time * batch
        d_recurrent = None
        if needs[3]:
            d_recurrent = torch.bmm(
                d_reached.view(layers, steps, -1).transpose(1, 2), hs[:, :-1].reshape(layers, steps, size)
            )
        flat = [d_act.view(steps, -1) for d_act in d_acts]
        below = [x.reshape(steps, -1), *(layer.reshape(steps, size) for layer in hs[:-1, 1:])]
        return (
            None,
            None,
            None,
            (d_acts[0] @ vertical[0]) if needs[0] else None,
            dh if needs[1] else None,
            dc if needs[2] else None,
            d_recurrent,
            *(d.t() @ given if need else None for d, given, need in zip(flat, below, needs[4:], strict=False)),
            *(d.sum(0) if need else None for d, need in zip(flat, needs[4 + layers :], strict=True)),
        )


def _slopes(
    form: Form, hs: Tensor, cs: Tensor | None, feedback: Tensor | None, acts: list[Tensor]
) -> tuple[list[tuple[Tensor, ...]], list[Tensor]]:
    """For every layer and all steps: derivatives of what is point-wise, and of the global gates by their logits."""
    size, width = form.hidden, (CELLS[form.cell] + 1) * form.hidden
    slopes: list[tuple[Tensor, ...]] = []
    for j, act in enumerate(acts):
        *gates, candidate = torch.split(act[:, :, :width], size, 2)
        inner = 1 - candidate.square()
        if feedback is not None:
            reset, update = gates
            keep = 1 - update
            slopes.append(
                (inner * keep, (hs[j, :-1] - candidate) * (update * keep), feedback[j] * (reset * (1 - reset)))
            )
        elif cs is not None:
            keep_in, forget, out = gates
            squashed = cs[j, 1:].tanh()
            slopes.append(
                (
                    out * (1 - squashed.square()),
                    squashed * (out * (1 - out)),
                    candidate * (keep_in * (1 - keep_in)),
                    cs[j, :-1] * (forget * (1 - forget)),
                    inner * keep_in,
                )
            )
        else:
            slopes.append((1 - hs[j, 1:].square(),))
    gates = [act[:, :, width:] for act in acts]
    return slopes, [gate * (1 - gate) for gate in gates]
