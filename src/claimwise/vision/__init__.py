"""Vision: VGG networks, how they are trained and tested, and what any network sees and costs."""

from claimwise.vision.dense_evaluation import DenseVGG, dense, dense_features, dense_posteriors, dense_scores
from claimwise.vision.highway_network import (
    convolutional_highway_network,
    convolutional_plain_network,
    highway_network,
    plain_network,
)
from claimwise.vision.lenet import LeNet, load_nguyen_lenet
from claimwise.vision.local_response_normalisation import LocalResponseNormalisation
from claimwise.vision.multi_crop import crop_grid, crop_posteriors, ten_crop
from claimwise.vision.multiply_accumulates import LayerOperations, MultiplyAccumulates, multiply_accumulates
from claimwise.vision.parameter_counts import LayerParameters, ParameterCounts, parameter_counts
from claimwise.vision.plain_networks import (
    PLAIN_CONFIGURATIONS,
    PlainConfiguration,
    SpatialPyramidPooling,
    plain_rectifier_network,
)
from claimwise.vision.public_weights import PREPROCESSING, Preprocessing, load_public_weights
from claimwise.vision.receptive_field import ReceptiveField, receptive_field, receptive_fields
from claimwise.vision.scale_jitter import rescale, scale_jitter
from claimwise.vision.squeezenet import SQUEEZENET_PREPROCESSING, Fire, SqueezeNet
from claimwise.vision.vgg import CONFIGURATIONS, VGG, Configuration
from claimwise.vision.vgg_initialisation import INITIALISATIONS, initialise
from claimwise.vision.vgg_preinitialisation import preinitialise

__all__ = [
    "CONFIGURATIONS",
    "INITIALISATIONS",
    "PLAIN_CONFIGURATIONS",
    "PREPROCESSING",
    "SQUEEZENET_PREPROCESSING",
    "VGG",
    "Configuration",
    "DenseVGG",
    "Fire",
    "LayerOperations",
    "LayerParameters",
    "LeNet",
    "LocalResponseNormalisation",
    "MultiplyAccumulates",
    "ParameterCounts",
    "PlainConfiguration",
    "Preprocessing",
    "ReceptiveField",
    "SpatialPyramidPooling",
    "SqueezeNet",
    "convolutional_highway_network",
    "convolutional_plain_network",
    "crop_grid",
    "crop_posteriors",
    "dense",
    "dense_features",
    "dense_posteriors",
    "dense_scores",
    "highway_network",
    "initialise",
    "load_nguyen_lenet",
    "load_public_weights",
    "multiply_accumulates",
    "parameter_counts",
    "plain_network",
    "plain_rectifier_network",
    "preinitialise",
    "receptive_field",
    "receptive_fields",
    "rescale",
    "scale_jitter",
    "ten_crop",
]
