"""Layers for very deep networks, rectifiers and their initial weights, fixed kernels, scale space and pooling."""

from claimwise.layers.gaussian import (
    discrete_gaussian_kernel,
    gaussian_kernel,
)
from claimwise.layers.highway import (
    Highway,
    HighwayConv2d,
    HighwayLinear,
    HighwayModule,
    Routing,
    count_highway_layers,
    gates,
    lesioned,
    routing,
)
from claimwise.layers.highway_stack import (
    HighwayStack,
)
from claimwise.layers.laplacian import (
    difference_of_gaussians_kernel,
    laplacian_kernel,
    laplacian_of_gaussian_kernel,
)
from claimwise.layers.local_extrema import (
    local_extrema,
)
from claimwise.layers.locally_connected import (
    LocallyConnected2d,
)
from claimwise.layers.matched_filter import (
    matched_filter,
)
from claimwise.layers.neocognitron import (
    CCells,
    Neocognitron,
    SCells,
    Stage,
)
from claimwise.layers.pooling import (
    POOLINGS,
    Pool,
    Pooling,
)
from claimwise.layers.prelu import (
    PReLU,
    parameter_groups,
    slopes,
)
from claimwise.layers.pyramid import (
    gaussian_pyramid,
)
from claimwise.layers.rectifier_initialisation import (
    SCHEMES,
    Fans,
    fans,
    initial_std,
    initialise_weights,
    rectifier_gain,
)
from claimwise.layers.scale_space import (
    scale_space,
)
from claimwise.layers.separable_convolution import (
    Boundary,
    separable_convolution,
)
from claimwise.layers.shift_consistency import (
    ShiftConsistency,
    shift_consistency,
    shifted,
)
from claimwise.layers.signal_propagation import (
    SignalPropagation,
    SignalScales,
    signal_propagation,
    will_it_train,
)
from claimwise.layers.sobel import (
    Edges,
    sobel,
    sobel_kernels,
)

__all__ = [
    "POOLINGS",
    "SCHEMES",
    "Boundary",
    "CCells",
    "Edges",
    "Fans",
    "Highway",
    "HighwayConv2d",
    "HighwayLinear",
    "HighwayModule",
    "HighwayStack",
    "LocallyConnected2d",
    "Neocognitron",
    "PReLU",
    "Pool",
    "Pooling",
    "Routing",
    "SCells",
    "ShiftConsistency",
    "SignalPropagation",
    "SignalScales",
    "Stage",
    "count_highway_layers",
    "difference_of_gaussians_kernel",
    "discrete_gaussian_kernel",
    "fans",
    "gates",
    "gaussian_kernel",
    "gaussian_pyramid",
    "initial_std",
    "initialise_weights",
    "laplacian_kernel",
    "laplacian_of_gaussian_kernel",
    "lesioned",
    "local_extrema",
    "matched_filter",
    "parameter_groups",
    "rectifier_gain",
    "routing",
    "scale_space",
    "separable_convolution",
    "shift_consistency",
    "shifted",
    "signal_propagation",
    "slopes",
    "sobel",
    "sobel_kernels",
    "will_it_train",
]
