"""A gated-feedback stack, forward and backward, against its equations layer by layer and step by step in torch.

``python benchmarks/gated_feedback.py`` writes ``results/benchmarks/gated_feedback.json`` and ``.md``. No package has
this network. The peer is what one would write: the same products, one for each matrix of the equations at each step,
autograd for the way back. Sizes are a character model's: three layers.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from claimwise.recurrent import GatedFeedback
from timing import compare, max_difference, write_table

GATES = {"tanh": (), "gru": (0, 1), "lstm": (0, 1, 3)}
CANDIDATE = {"tanh": 0, "gru": 2, "lstm": 2}


def layer_by_layer(net: GatedFeedback, x: Tensor) -> Tensor:
    """The top layer's states, as the equations read."""
    layers, size, cell = net.num_layers, net.hidden_size, net.cell
    order = [*GATES[cell], CANDIDATE[cell]]
    h = [x.new_zeros(x.shape[1], size) for _ in range(layers)]
    c = list(h)
    outputs = []
    for x_t in x:
        star = torch.cat(h, 1)
        below, new_h, new_c = x_t, [], []
        for j in range(layers):
            blocks = [
                below @ weight.t() + bias
                for weight, bias in zip(
                    getattr(net, f"weight_ih_l{j}").split(size), getattr(net, f"bias_l{j}").split(size), strict=True
                )
            ]
            *vertical, candidate = (blocks[block] for block in order)
            gates = torch.sigmoid(below @ getattr(net, f"weight_gate_ih_l{j}").t() + star @ net.weight_gate_hh[j].t())
            fed = sum(gates[:, i : i + 1] * (h[i] @ net.feedback(i, j).t()) for i in range(layers))
            own = net.weight_hh[j, layers * size :].split(size) if vertical else ()
            sigmas = [torch.sigmoid(v + h[j] @ u.t()) for v, u in zip(vertical, own, strict=True)]
            if cell == "tanh":
                new_h.append(torch.tanh(candidate + fed))
            elif cell == "gru":
                reset, update = sigmas
                made = torch.tanh(candidate + reset * fed)
                new_h.append((1 - update) * made + update * h[j])
            else:
                keep_in, forget, out = sigmas
                new_c.append(forget * c[j] + keep_in * torch.tanh(candidate + fed))
                new_h.append(out * torch.tanh(new_c[-1]))
            below = new_h[-1]
        h, c = new_h, new_c or c
        outputs.append(h[-1])
    return torch.stack(outputs)


def training(net: GatedFeedback, run: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Tensor]:
    """Forward and backward; returns the output and all gradients in one vector."""
    weigh = torch.randn(len(x), x.shape[1], net.hidden_size, generator=torch.Generator().manual_seed(0))

    def program() -> Tensor:
        net.zero_grad()
        output = run(x)
        (output * weigh).sum().backward()
        return torch.cat(
            [output.detach().flatten(), *(p.grad.flatten() for p in net.parameters() if p.grad is not None)]
        )

    return program


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Largest difference, in units of the largest entry."""
    return max_difference(a, b) / float(b.abs().max())


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for cell in ("tanh", "gru", "lstm"):
        for batch, time, size in ((32, 50, 64), (32, 50, 128)):
            torch.manual_seed(0)
            net = GatedFeedback(size, size, 3, cell)
            x = torch.randn(time, batch, size)
            rows.append(
                compare(
                    f"{cell}, 3 layers of {size}, batch {batch}, {time} steps, forward and backward",
                    training(net, lambda x, net=net: net(x)[0], x),
                    training(net, lambda x, net=net: layer_by_layer(net, x), x),
                    peer_name="the equations in torch",
                    repeats=3,
                    block_seconds=0.05,
                    difference=relative_difference,
                    tolerance=1e-4,
                    clock="processor",
                )
            )
            print(rows[-1].name, rows[-1].ratio, flush=True)
    path = write_table("gated_feedback", rows)
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
