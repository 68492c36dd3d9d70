"""The door to all data: where it looks, what it refuses, what it fetches; and every data set at hand."""

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import textwrap
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from claimwise.data import (
    CorruptDataError,
    DataError,
    MissingDataError,
    Registry,
    UnknownDatasetError,
    cache_folder,
    dataset_info,
    fetch,
    hash_content,
    list_datasets,
    load,
    loading,
    verify,
)
from claimwise.data.registry import REGISTRY_FILE

X = np.random.default_rng(0).integers(256, size=(5, 4, 4), dtype=np.uint8)
Y = np.arange(5)
CONTENT = hash_content({"train": {"x": X, "y": Y}})


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes(), mtime=0)


FILES = {"x.gz": idx(X), "y.gz": idx(Y)}


@pytest.fixture
def mine(tmp_path: Path) -> "Mine":
    return Mine(tmp_path)


class Mine:
    """A registry of one data set, "mine": an npz for the data folder, idx files from upstream."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        (self.data / "mine").mkdir(parents=True)
        self.path = folder / "registry.toml"
        self.npz = self.data / "mine" / "mine.npz"
        self.pack(self.npz)
        self.digest = hashlib.sha256(self.npz.read_bytes()).hexdigest()

    def pack(self, path: Path, x: np.ndarray = X) -> None:
        np.savez(path, x=x, y=Y.astype(np.uint8))

    def registry(self, *urls: str, content: str | None = CONTENT) -> Registry:
        md5 = {name: hashlib.md5(data).hexdigest() for name, data in FILES.items()}
        known = f'[mine.content]\noriginal = "{content}"' if content else ""
        self.path.write_text(
            textwrap.dedent(f"""
            [mine]
            title = "Mine"
            source = "http://example.invalid/mine"
            licence = "none"
            publish = false
            citation = "@misc{{mine}}"
            {known}
            [[mine.packings]]
            variant = "original"
            format = "npz"
            files = [{{ path = "mine/mine.npz", bytes = 1, digest = "sha256:{self.digest}" }}]
            [[mine.packings]]
            variant = "original"
            format = "idx"
            urls = {json.dumps(list(urls))}
            files = [
                {{ path = "mine/x.gz", bytes = 1, digest = "md5:{md5["x.gz"]}", gives = "train/x" }},
                {{ path = "mine/y.gz", bytes = 1, digest = "md5:{md5["y.gz"]}", gives = "train/y" }},
            ]
            [mine.splits.train]
            x = "uint8[5,4,4]"
            y = "int64[5]"
            """)
        )
        return Registry(self.path)


def upstream_has(upstream, mirror="a", **files):
    upstream.files |= {f"{mirror}/{name}": data for name, data in (FILES | files).items()}
    return f"{upstream.url}{mirror}/"


# Where it looks.


def test_reads_the_data_folder(mine, cache):
    data = load("mine", data_dir=mine.data, registry=mine.registry())
    np.testing.assert_array_equal(data["train"]["x"], X)
    assert data["train"]["y"].dtype == np.int64
    assert data.content_hash == CONTENT
    assert (data.name, data.variant, data.licence, data.publish) == ("mine", "original", "none", False)
    assert data.source == "http://example.invalid/mine"
    assert data.files == (mine.npz,)
    with pytest.raises(ValueError, match="read-only"):
        data["train"]["x"][0] = 0


def test_the_variable_names_the_data_folder(mine, cache, monkeypatch):
    monkeypatch.setenv("CLAIMWISE_DATA", str(mine.data))
    assert load("mine", registry=mine.registry()).content_hash == CONTENT


def test_a_folder_that_is_not_there_is_an_error(mine, cache, monkeypatch):
    with pytest.raises(MissingDataError, match="data_dir names '/nowhere'"):
        load("mine", data_dir="/nowhere", registry=mine.registry())
    monkeypatch.setenv("CLAIMWISE_DATA", "/nowhere")
    for look in (lambda: list_datasets(), lambda: verify("digits"), lambda: load("mnist")):
        with pytest.raises(MissingDataError, match="CLAIMWISE_DATA names '/nowhere'"):
            look()


def test_upstream_files_in_the_data_folder_do_too(mine, cache):
    mine.npz.unlink()
    for name, body in FILES.items():
        (mine.data / "mine" / name).write_bytes(body)
    assert load("mine", data_dir=mine.data, registry=mine.registry()).content_hash == CONTENT


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CLAIMWISE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CLAIMWISE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/claimwise")


# What it refuses.


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "other"])
def test_a_damaged_file_is_refused(mine, cache, damage):
    body = bytearray(mine.npz.read_bytes())
    if damage == "flip":
        body[len(body) // 3] ^= 1
    mine.npz.write_bytes({"truncate": body[:-20], "flip": body, "empty": b"", "other": b"<html>"}[damage])
    with pytest.raises(CorruptDataError, match=r"mine: .*mine\.npz is not what is registered"):
        load("mine", data_dir=mine.data, registry=mine.registry())
    assert mine.npz.exists()  # the user's folder is the user's


def test_other_data_in_the_same_form_are_refused(mine, cache):
    mine.pack(mine.npz, x=X ^ 1)
    with pytest.raises(CorruptDataError, match=f"content hash .* registered {CONTENT}"):
        load("mine", data_dir=mine.data, registry=mine.registry())


def test_a_repacking_of_the_same_data_is_the_same_data(mine, cache):
    np.savez_compressed(mine.npz, x=X, y=Y.astype(np.uint8))
    assert hashlib.sha256(mine.npz.read_bytes()).hexdigest() != mine.digest
    assert load("mine", data_dir=mine.data, registry=mine.registry()).content_hash == CONTENT


def test_without_a_content_hash_on_record_only_the_registered_file_will_do(mine, cache):
    registry = mine.registry(content=None)
    assert load("mine", data_dir=mine.data, registry=registry).content_hash == CONTENT
    np.savez_compressed(mine.npz, x=X, y=Y.astype(np.uint8))
    with pytest.raises(CorruptDataError, match="it is not the file with sha256"):
        load("mine", data_dir=mine.data, registry=registry)


def test_a_registered_content_hash_that_is_wrong_is_noticed(mine, cache):
    with pytest.raises(CorruptDataError, match="content hash"):
        load("mine", data_dir=mine.data, registry=mine.registry(content="0" * 64))


def test_missing_data_say_where_to_put_which_file(mine, cache):
    with pytest.raises(MissingDataError) as error:
        load("mine", registry=mine.registry("http://example.invalid/"), download=False)
    said = str(error.value)
    assert str(cache / "mine" / "mine.npz") in said
    assert f"{cache / 'mine' / 'x.gz'}, {cache / 'mine' / 'y.gz'} (from http://example.invalid/)" in said
    assert "CLAIMWISE_DATA is not set" in said


def test_unknown_names(cache):
    for ask in (load, fetch, verify, dataset_info):
        with pytest.raises(UnknownDatasetError, match="mnist"):
            ask("mnits")


# What it fetches.


def test_fetches_what_is_not_at_hand(mine, cache, upstream):
    registry = mine.registry(upstream_has(upstream))
    told = []
    data = load("mine", registry=registry, progress=lambda *at: told.append(at))
    assert data.content_hash == CONTENT
    assert data.files == (cache / "mine" / "x.gz", cache / "mine" / "y.gz")
    assert {name for name, _, _ in told} == {"x.gz", "y.gz"}
    asked = len(upstream.requests)
    assert load("mine", registry=registry).content_hash == CONTENT
    assert len(upstream.requests) == asked


def test_fetch_then_load_without_network(mine, cache, upstream):
    registry = mine.registry(upstream_has(upstream))
    assert fetch("mine", registry=registry) == (cache / "mine" / "x.gz", cache / "mine" / "y.gz")
    assert load("mine", registry=registry, download=False).content_hash == CONTENT


def test_mirrors_are_tried_in_turn(mine, cache, upstream):
    upstream.files["a/x.gz"] = b"<html>moved</html>"  # wrong file; a/y.gz is 404
    registry = mine.registry(f"{upstream.url}a/", upstream_has(upstream, "b"))
    assert load("mine", registry=registry).content_hash == CONTENT


@pytest.mark.parametrize("damage", [b"", FILES["x.gz"][:-5], idx(X ^ 1)], ids=["empty", "truncated", "other"])
def test_a_damaged_file_in_the_cache_is_fetched_again(mine, cache, upstream, damage):
    registry = mine.registry(upstream_has(upstream))
    fetch("mine", registry=registry)
    (cache / "mine" / "x.gz").write_bytes(damage)
    with pytest.raises(CorruptDataError, match=r"x\.gz is not what is registered"):
        load("mine", registry=registry, download=False)
    assert load("mine", registry=registry).content_hash == CONTENT
    assert (cache / "mine" / "x.gz").read_bytes() == FILES["x.gz"]


def test_no_network_at_all(mine, cache):
    refused = "http://127.0.0.1:9/"  # the discard port: nothing listens
    with pytest.raises(MissingDataError) as error:
        load("mine", registry=mine.registry(refused))
    assert "http://127.0.0.1:9/x.gz: ConnectionError" in str(error.value)
    assert str(cache / "mine" / "x.gz") in str(error.value)
    with pytest.raises(MissingDataError, match=r"imagenet_classes .* Put it there"):
        fetch("imagenet_classes")


def test_the_corrupt_cache_of_a_machine_without_network_is_not_used(mine, cache):
    (cache / "mine").mkdir(parents=True)
    for name, body in FILES.items():
        (cache / "mine" / name).write_bytes(body[:-3])
    with pytest.raises(MissingDataError, match="could not download"):
        load("mine", registry=mine.registry("http://127.0.0.1:9/"))


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing below `folder` can be written: root, whom modes do not stop, becomes nobody meanwhile."""
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for place in places:
            place.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX modes")
def test_a_read_only_cache_serves_what_it_has(mine, upstream, monkeypatch):
    monkeypatch.delenv("CLAIMWISE_DATA", raising=False)
    monkeypatch.setattr(loading, "WORTH_KEEPING", -1.0)  # keep even what decodes at once
    monkeypatch.setattr(loading, "READING_BACK", float("inf"))
    registry = mine.registry(upstream_has(upstream))
    list(registry)  # read before the reader becomes nobody
    with tempfile.TemporaryDirectory() as named:  # pytest's own folders are private
        Path(named).chmod(0o755)
        cache = Path(named)
        monkeypatch.setenv("CLAIMWISE_CACHE", named)
        (cache / "mine").mkdir()
        for name, body in FILES.items():
            (cache / "mine" / name).write_bytes(body)
        with read_only(cache):
            with pytest.raises(OSError, match="Permission denied"):
                (cache / "probe").touch()
            assert load("mine", registry=registry).content_hash == CONTENT
            assert fetch("mine", registry=registry) == (cache / "mine" / "x.gz", cache / "mine" / "y.gz")
        (cache / "mine" / "x.gz").unlink()
        with read_only(cache), pytest.raises(MissingDataError, match=r"cannot write .*CLAIMWISE_CACHE"):
            load("mine", registry=registry)
        assert sorted(path.name for path in cache.rglob("*")) == ["mine", "y.gz"]
    assert upstream.requests == []


def test_a_file_in_the_caches_place_harms_only_downloads(mine, cache, upstream):
    cache.write_text("in the way")
    registry = mine.registry(upstream_has(upstream))
    assert load("mine", data_dir=mine.data, registry=registry).content_hash == CONTENT
    with pytest.raises(MissingDataError, match=r"cannot write .*CLAIMWISE_CACHE"):
        load("mine", registry=registry)


# Decoded arrays in the cache.


@pytest.fixture
def decodings(monkeypatch) -> list[str]:
    """Decoded arrays are always kept; the names of data sets that were decoded."""
    from claimwise.data import formats

    done: list[str] = []
    decode = formats.decode

    def counted(entry, packing, paths):
        done.append(entry.name)
        return decode(entry, packing, paths)

    monkeypatch.setattr(loading, "WORTH_KEEPING", -1.0)
    monkeypatch.setattr(loading, "READING_BACK", float("inf"))
    monkeypatch.setattr(formats, "decode", counted)
    return done


def test_decoded_arrays_are_kept(mine, cache, decodings):
    registry = mine.registry()
    first = load("mine", data_dir=mine.data, registry=registry)
    second = load("mine", data_dir=mine.data, registry=registry)
    assert decodings == ["mine"]
    assert second.content_hash == first.content_hash == hash_content(second)
    assert not second["train"]["x"].flags.writeable


def test_damaged_decoded_arrays_are_decoded_anew(mine, cache, decodings):
    registry = mine.registry()
    load("mine", data_dir=mine.data, registry=registry)
    (kept,) = (cache / "decoded").glob("*/train.x.npy")
    for damage in (lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""):
        kept.write_bytes(damage(kept.read_bytes()))
        data = load("mine", data_dir=mine.data, registry=registry)
        np.testing.assert_array_equal(data["train"]["x"], X)
        assert data.content_hash == CONTENT
    assert len(decodings) == 4
    load("mine", data_dir=mine.data, registry=registry)
    assert len(decodings) == 4  # and kept anew


def test_decoded_arrays_never_stand_for_a_damaged_file(mine, cache, decodings):
    registry = mine.registry()
    load("mine", data_dir=mine.data, registry=registry)
    mine.npz.write_bytes(mine.npz.read_bytes()[:-20])
    with pytest.raises(CorruptDataError, match="is not what is registered"):
        load("mine", data_dir=mine.data, registry=registry)


def test_decoded_arrays_of_another_description_are_not_taken(mine, cache, decodings):
    load("mine", data_dir=mine.data, registry=mine.registry(content=None))
    registry = mine.registry(content=None)
    mine.path.write_text(mine.path.read_text().replace("int64[5]", "int32[5]"))
    assert load("mine", data_dir=mine.data, registry=registry)["train"]["y"].dtype == np.int32


# Lists and checks.


def test_listing_tells_where_each_data_set_is(mine, cache, upstream):
    registry = mine.registry(upstream_has(upstream))

    def place(**where):
        (listed,) = list_datasets(registry=registry, **where)
        return listed.place

    assert place() == "to fetch"
    assert place(data_dir=mine.data) == "data folder"
    fetch("mine", registry=registry)
    assert place() == "cached"
    shutil.rmtree(cache)
    (listed,) = list_datasets(registry=mine.registry())
    assert (listed.place, listed.publish, listed.title) == ("missing", False, "Mine")
    places = {listed.name: listed.place for listed in list_datasets()}
    assert places["digits"] == "embedded"
    assert places["spirals"] == "generated"
    assert places["mnist"] == "to fetch"
    assert places["omniglot"] == "missing"


def test_verify_tells_ok_corrupt_and_missing(mine, cache, upstream):
    registry = mine.registry(upstream_has(upstream))

    def status(**where):
        (verified,) = verify("mine", registry=registry, **where)
        return verified.status

    assert status() == "missing"
    assert status(data_dir=mine.data) == "ok"
    assert verify(registry=registry, data_dir=mine.data)[0].content_hash == CONTENT
    mine.npz.write_bytes(b"?")
    assert status(data_dir=mine.data) == "corrupt"
    assert "Replace it" in verify("mine", registry=registry, data_dir=mine.data)[0].detail
    assert upstream.requests == []  # checking downloads nothing


def test_digits_of_other_content_are_refused(cache, tmp_path):
    changed = REGISTRY_FILE.read_text().replace(dataset_info("digits").content["original"], "0" * 64)
    (tmp_path / "registry.toml").write_text(changed)
    with pytest.raises(CorruptDataError, match="digits: content hash"):
        load("digits", registry=Registry(tmp_path / "registry.toml"))


# Every data set at hand.


def data_at_hand() -> Path | None:
    named = os.environ.get("CLAIMWISE_DATA")
    beside = Path(__file__).parents[3] / "shared" / "data"
    if named:
        return Path(named)
    return beside if beside.is_dir() else None


AT_HAND = data_at_hand()


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory) -> Path:
    """One for all tests and all workers of this session: decoding CIFAR-10 takes seconds."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"


@pytest.mark.parametrize("name", Registry())
def test_every_data_set_at_hand_loads_as_registered(name, shared_cache, monkeypatch):
    monkeypatch.setenv("CLAIMWISE_CACHE", str(shared_cache))
    monkeypatch.delenv("CLAIMWISE_DATA", raising=False)
    entry = dataset_info(name)
    if not entry.generator and (AT_HAND is None or loading._at_hand(entry, AT_HAND) is None):
        pytest.skip(f"{name} is not at hand; set CLAIMWISE_DATA")
    if name == "imagenet_samples_256":
        pytest.importorskip("PIL")
    data = load(name, data_dir=AT_HAND, download=False)
    assert {split: set(named) for split, named in data.items()} == {s: set(named) for s, named in entry.splits.items()}
    for split, named in entry.splits.items():
        for array, spec in named.items():
            assert str(data[split][array].dtype).replace("=", "<") == spec.dtype
            assert data[split][array].shape == spec.shape
            assert not data[split][array].flags.writeable
    assert data.content_hash == entry.content.get(data.variant, data.content_hash)
    for split in data:
        if "y" in data[split] and entry.classes:
            assert np.unique(data[split]["y"]).tolist() == list(range(len(entry.classes)))


def needs(name: str) -> Path:
    if AT_HAND is None or loading._at_hand(dataset_info(name), AT_HAND) is None:
        pytest.skip(f"{name} is not at hand; set CLAIMWISE_DATA")
    return AT_HAND


@pytest.mark.parametrize(
    ("name", "split", "files"),
    [
        ("cifar10", "train", ["cifar10/cifar10_train1.npz", "cifar10/cifar10_train2.npz"]),
        ("cifar10", "test", ["cifar10/cifar10_test.npz"]),
        ("faces_utkface_48", "all", ["faces/utkface_48.npz"]),
        ("imagenet_samples_64", "all", ["imagenet/samples_64.npz"]),
    ],
)
def test_decoded_pixels_are_those_of_the_manifest(name, split, files, shared_cache, monkeypatch):
    """Against hashes that whoever packed the data computed from the pixels."""
    monkeypatch.setenv("CLAIMWISE_CACHE", str(shared_cache))
    folder = needs(name)
    if not (folder / "MANIFEST.json").exists():
        pytest.skip("no MANIFEST.json beside the data")
    manifest = {file["file"]: file for file in json.loads((folder / "MANIFEST.json").read_text())["files"]}
    x = load(name, data_dir=folder)[split]["x"]
    at = 0
    for file in files:
        rows = manifest[file]["rows"]
        assert hashlib.sha256(x[at : at + rows]).hexdigest() == manifest[file]["decoded_pixels_sha256"]
        at += rows
    assert at == len(x)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_upstreams_own_format_gives_the_registered_content(name, shared_cache, cache, upstream, monkeypatch):
    """The archives as upstream packs them, served here: another packing, the same content hash."""
    folder = needs(name)
    monkeypatch.setenv("CLAIMWISE_CACHE", str(shared_cache))
    data = load(name, data_dir=folder)
    monkeypatch.setenv("CLAIMWISE_CACHE", str(cache))
    table = tomllib.loads(REGISTRY_FILE.read_text())[name]
    text = REGISTRY_FILE.read_text()
    (packing,) = [packing for packing in table["packings"] if packing["format"] == "idx"]
    for file in packing["files"]:
        split, array = file["gives"].split("/")
        values = data[split][array].astype(np.uint8)
        sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
        body = gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes(), compresslevel=1)
        upstream.files["a/" + Path(file["path"]).name] = body
        text = text.replace(file["digest"], "md5:" + hashlib.md5(body).hexdigest())
    for url in packing["urls"]:
        text = text.replace(f'"{url}",', f'"{upstream.url}a/",')
    (cache.parent / "registry.toml").write_text(text)
    fetched = load(name, registry=Registry(cache.parent / "registry.toml"))
    assert fetched.files[0].is_relative_to(cache)
    assert fetched.content_hash == data.content_hash == dataset_info(name).content["original"]


def test_cifar10_from_upstream_is_another_variant(cache, upstream):
    """An archive in upstream's form, known by its MD5; the content hash is computed and the variant told."""
    import io
    import pickle
    import tarfile

    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    rows = {name: rng.integers(256, size=(2, 3072), dtype=np.uint8) for name in names}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in names:
            body = pickle.dumps({b"data": rows[name], b"labels": [3, 4]}, 3)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    body = stream.getvalue()
    upstream.files["cifar-10-python.tar.gz"] = body
    text = REGISTRY_FILE.read_text()
    for true, here in (
        ("md5:c58f30108f718f92721af3b95e74349a", "md5:" + hashlib.md5(body).hexdigest()),
        ("https://www.cs.toronto.edu/~kriz/", upstream.url),
        ("[50000,32,32,3]", "[10,32,32,3]"),
        ("[10000,32,32,3]", "[2,32,32,3]"),
        ("int64[50000]", "int64[10]"),
        ("int64[10000]", "int64[2]"),
    ):
        assert true in text
        text = text.replace(true, here)
    (cache.parent / "registry.toml").write_text(text)
    data = load("cifar10", registry=Registry(cache.parent / "registry.toml"))
    assert data.variant == "upstream"
    assert "MD5" in data.note
    np.testing.assert_array_equal(data["test"]["x"][:, 1, 2, 0], rows["test_batch"][:, 34])  # red, row 1, column 2
    assert data.content_hash == hash_content(data) != dataset_info("cifar10").content["jpeg98"]
    assert load("cifar10", registry=Registry(cache.parent / "registry.toml")).content_hash == data.content_hash


def test_hashing_mnist_takes_less_than_a_third_of_a_second(shared_cache, monkeypatch):
    folder = needs("mnist")
    monkeypatch.setenv("CLAIMWISE_CACHE", str(shared_cache))
    data = load("mnist", data_dir=folder)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        hash_content(data)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.3


def test_errors_are_one_family():
    for error in (UnknownDatasetError, MissingDataError, CorruptDataError):
        assert issubclass(error, DataError)
        assert str(error("what to do")) == "what to do"  # KeyError would quote it
