"""Many fully connected highway layers as one operation, for networks so deep that calls cost more than arithmetic.

R. K. Srivastava, K. Greff, J. Schmidhuber, *Training Very Deep Networks*, NIPS 2015, equations 3 and 4,
https://arxiv.org/abs/1507.06228. How it is computed is ours.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from claimwise.layers.highway import (
    ACTIVATIONS,
    Activation,
    HighwayModule,
    carried,
    check_choice,
    check_gate_bias,
    initialise,
    transport,
)


def _one_by_one(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> list[Tensor]:
    """Outputs of all layers by ordinary operations: what compilers, autocast and second derivatives want."""
    outputs = []
    for w, b in zip(weight.unbind(), bias.unbind(), strict=True):
        h, t = F.linear(x, w, b).chunk(2, -1)
        x = transport(x, ACTIVATIONS[activation](h), t.sigmoid())
        outputs.append(x)
    return outputs


class _Stack(torch.autograd.Function):
    """All layers forward, all layers backward: no graph between them, and weight gradients by one batched product.

    Inside, examples are columns. So transform and gates, the upper and lower half of one product, are each contiguous.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
        layers, rows, features = weight.shape
        xs = x.new_empty(layers + 1, features, len(x))  # inputs of all layers, and the output
        zs = x.new_empty(layers, rows, len(x))  # H above T
        xs[0] = x.t()
        apply = torch.relu_ if activation == "relu" else torch.tanh_
        inputs = xs.unbind()
        for given, made, z, w, b in zip(
            inputs[:-1], inputs[1:], zs.unbind(), weight.unbind(), bias.unsqueeze(2).unbind(), strict=True
        ):
            torch.addmm(b, w, given, out=z)
            torch.lerp(given, apply(z[:features]), z[features:].sigmoid_(), out=made)
        ctx.activation = activation
        ctx.save_for_backward(x, weight, bias, xs, zs)
        return xs[-1].t().contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, bias, xs, zs = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient a gradient is wanted
            needed = [tensor for tensor, need in zip((x, weight, bias), ctx.needs_input_grad[:3], strict=True) if need]
            *_, y = _one_by_one(x, weight, bias, ctx.activation)
            found = iter(torch.autograd.grad(y, needed, grad, create_graph=True))
            return *(next(found) if need else None for need in ctx.needs_input_grad[:3]), None
        layers, rows, features = weight.shape
        z = zs.view(layers, 2, features, -1)
        h, t = z[:, 0], z[:, 1]
        # dy/dx = 1 - T beside the two products; dy/dz_H = T f'; dy/dz_T = (H - x) T (1 - T): for all layers at once.
        through = 1 - t
        slope = torch.empty_like(z)
        torch.mul(h.sign() if ctx.activation == "relu" else 1 - h.square(), t, out=slope[:, 0])
        torch.mul(torch.sub(h, xs[:-1]).mul_(t), through, out=slope[:, 1])
        g = grad.t().contiguous()
        for factor, kept, w in zip(
            reversed(slope.unbind()), reversed(through.unbind()), reversed(weight.unbind()), strict=True
        ):
            factor.mul_(g)  # becomes the gradient of z; g serves both halves
            g = kept.mul_(g).addmm_(w.t(), factor.view(rows, -1))
        grads = slope.view(layers, rows, -1)
        needs = ctx.needs_input_grad
        return (
            g.t() if needs[0] else None,
            torch.bmm(grads, xs[:-1].transpose(1, 2)) if needs[1] else None,
            grads.sum(2) if needs[2] else None,
            None,
        )


class HighwayStack(HighwayModule):
    r"""A stack of fully connected highway layers with coupled gates.

    .. math:: x_{l+1} = x_l + \sigma(W_T^l x_l + b_T^l) \odot \left( f(W_H^l x_l + b_H^l) - x_l \right)

    with :math:`f` the activation, for :math:`l = 1 \ldots L`. It computes what L layers
    :class:`~claimwise.layers.HighwayLinear` in a row compute, with one product a layer, and trains faster because they
    are one node of autograd's graph and two parameters of the optimiser.

    Args:
        features: Width, of the input, of every layer and of the output.
        depth: L, the number of layers.
        activation: f, ``"relu"`` or ``"tanh"``.
        gate_bias: Initial value of all b_T.
        generator: Source of the initial weights; torch's global one by default.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        (\*, features) -> (\*, features); ``weight`` (depth, 2 features, features) and ``bias`` (depth, 2 features): H,
        then T.

    Raises:
        ValueError: a size below 1, a bias that is not finite, an unknown activation; on calling, an input of another
            size.

    Differences from the paper:
        none but the initial weights of gates, as in :class:`~claimwise.layers.HighwayLinear`. Under ``torch.compile``,
        under autocast and for second derivatives the layers are computed one by one; for ``torch.func`` use
        :class:`~claimwise.layers.HighwayLinear`.

    Example:
        >>> import torch
        >>> HighwayStack(50, 99)(torch.zeros(2, 50)).shape
        torch.Size([2, 50])
    """

    def __init__(
        self,
        features: int,
        depth: int,
        *,
        activation: Activation = "relu",
        gate_bias: float = -2.0,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("features", features), ("depth", depth)):
            if size < 1:
                raise ValueError(f"HighwayStack: {name} must be at least 1, got {size}")
        check_gate_bias("HighwayStack", gate_bias)
        check_choice("HighwayStack", "activation", activation, ACTIVATIONS)
        self.features, self.depth, self.activation = features, depth, activation
        self.weight = nn.Parameter(torch.empty(depth, 2 * features, features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(depth, 2 * features, device=device, dtype=dtype))
        for weight, bias in zip(self.weight, self.bias, strict=True):
            initialise(weight, bias, activation, (gate_bias,), generator)

    def _kept(self) -> tuple[Tensor, Tensor]:
        """Parameters of the layers that are not lesioned: one whose gate is shut hands its input on."""
        if not self.lesions:
            return self.weight, self.bias
        kept = [layer for layer in range(self.depth) if layer not in self.lesions]
        return self.weight[kept], self.bias[kept]

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        if x.shape[-1:] != (self.features,):
            raise carried("HighwayStack", "features", self.features, tuple(x.shape))
        weight, bias = self._kept()
        if len(weight) == 0:
            return x
        if (
            torch.compiler.is_compiling()
            or torch.is_autocast_enabled(x.device.type)
            or not torch.is_grad_enabled()  # nothing need be kept
        ):
            return _one_by_one(x, weight, bias, self.activation)[-1]
        flat: Tensor = _Stack.apply(x.reshape(-1, self.features), weight, bias, self.activation)  # type: ignore[no-untyped-call]
        return flat.reshape(x.shape)

    def trace(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        gates, outputs = [], []
        for layer in range(self.depth):
            h, t = F.linear(x, self.weight[layer], self.bias[layer]).chunk(2, -1)
            t = torch.zeros_like(t) if layer in self.lesions else t.sigmoid()
            x = transport(x, ACTIVATIONS[self.activation](h), t)
            gates.append(t)
            outputs.append(x)
        return gates, outputs

    def extra_repr(self) -> str:
        return f"{self.features}, depth={self.depth}, activation={self.activation!r}"
