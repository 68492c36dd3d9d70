"""The registry file and its records."""

import re
import subprocess
import sys

import pytest

from claimwise.data import Registry, UnknownDatasetError
from claimwise.data.formats import READERS
from claimwise.data.registry import ArraySpec, DataError

REGISTRY = Registry()

UPSTREAM = {
    "mnist": [
        "f68b3c2dcbeaaa9fbdd348bbdeb394d4",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ],
    "fashion_mnist": [
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ],
    "cifar10": ["c58f30108f718f92721af3b95e74349a"],
}


@pytest.mark.parametrize("name", REGISTRY)
def test_every_entry_is_complete(name):
    entry = REGISTRY[name]
    assert re.fullmatch(r"[a-z0-9_]+", name)
    assert entry.title
    assert entry.licence
    assert entry.source
    assert entry.citation.startswith("@") or entry.source == "generated"
    assert entry.splits
    assert bool(entry.generator) != bool(entry.packings)
    for packing in entry.packings:
        assert packing.format in READERS
        assert packing.variant in entry.content or packing.variant in entry.variants or name == "imagenet_samples_256"
        for file in packing.files:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.digest)
            assert file.bytes > 0
            assert ".." not in file.path
            assert not file.path.startswith("/")
        assert all(url.endswith("/") for url in packing.urls)
    for known in entry.content.values():
        assert re.fullmatch(r"[0-9a-f]{64}", known)


@pytest.mark.parametrize("name", UPSTREAM)
def test_upstream_archives_are_those_their_authors_publish(name):
    (packing,) = [packing for packing in REGISTRY[name].packings if packing.urls]
    assert [file.digest for file in packing.files] == ["md5:" + md5 for md5 in UPSTREAM[name]]
    assert all(len(packing.sources(file)) == len(packing.urls) for file in packing.files)


def test_addresses():
    addresses = {url for packing in REGISTRY["mnist"].packings for f in packing.files for url in packing.sources(f)}
    assert "http://yann.lecun.com/exdb/mnist/train-images-idx3-ubyte.gz" in addresses
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz" in addresses
    (cifar,) = [packing for packing in REGISTRY["cifar10"].packings if packing.urls]
    assert cifar.sources(cifar.files[0]) == ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",)


def test_both_variants_of_cifar10_are_known():
    entry = REGISTRY["cifar10"]
    assert {packing.variant for packing in entry.packings} == {"jpeg98", "upstream"} == entry.variants.keys()


def test_data_with_restricted_terms_are_not_published():
    restricted = {name for name in REGISTRY if not REGISTRY[name].publish}
    assert restricted == {
        "faces_utkface_48",
        "imagenet_samples_64",
        "imagenet_samples_256",
        "crowd_cifar10n",
        "crowd_cifar10h_counts",
        "hetero_dblp_four_area",
        "hetero_heco_dblp",
        "recsys_movielens_100k",
        "recsys_frappe_valid_test",
    }


@pytest.mark.parametrize(
    ("name", "hint"), [("mnits", "mnist"), ("jobs", "mediation_jobs"), ("zzz", "`claimwise data list`"), ("", "list")]
)
def test_unknown_names_are_answered_with_near_ones(name, hint):
    with pytest.raises(UnknownDatasetError, match=f"unknown data set {name!r}.*{hint}"):
        REGISTRY[name]


def test_array_descriptions():
    assert ArraySpec.parse("m/train/x", "uint8[2,3] from residual(d)") == ArraySpec("uint8", (2, 3), "d", "residual")
    assert ArraySpec.parse("m/train/x", "<U3[4]") == ArraySpec("<U3", (4,), "x")
    assert ArraySpec.parse("m/all/a", "float64[] from a.b") == ArraySpec("float64", (), "a.b")
    with pytest.raises(DataError, match="array m/train/x is described as 'uint8'"):
        ArraySpec.parse("m/train/x", "uint8")


def test_sizes_in_memory():
    assert REGISTRY["mnist"].decoded_bytes == 70_000 * (28 * 28 + 8)
    assert REGISTRY["mnist"].bytes == 9_202_488


def test_listing_imports_nothing_heavy():
    code = """
import sys
import claimwise.data
claimwise.data.list_datasets()
print(sorted({"torch", "scipy", "sklearn", "pooch", "numpy", "requests", "filelock"} & sys.modules.keys()))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
