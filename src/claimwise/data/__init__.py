"""Data sets behind one door: :func:`load` by name, verified, as numpy arrays by split.

Importing this package needs the standard library only; numpy and the rest are imported when data are read.
"""

from claimwise.data.dataset import Dataset, hash_content
from claimwise.data.download import Progress
from claimwise.data.loading import (
    Listed,
    Verified,
    cache_folder,
    dataset_info,
    fetch,
    list_datasets,
    load,
    verify,
)
from claimwise.data.registry import (
    CorruptDataError,
    DataError,
    Entry,
    MissingDataError,
    Registry,
    UnknownDatasetError,
)

__all__ = [
    "CorruptDataError",
    "DataError",
    "Dataset",
    "Entry",
    "Listed",
    "MissingDataError",
    "Progress",
    "Registry",
    "UnknownDatasetError",
    "Verified",
    "cache_folder",
    "dataset_info",
    "fetch",
    "hash_content",
    "list_datasets",
    "load",
    "verify",
]
