"""Readers of upstream formats, and what they refuse."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from claimwise.data.formats import ArrayUnpickler, decode, residual_to_rgb
from claimwise.data.registry import ArraySpec, Entry, File, Packing


def entry(splits: dict[str, dict[str, str]], packing: Packing) -> Entry:
    specs = {
        split: {name: ArraySpec.parse(name, text) for name, text in named.items()} for split, named in splits.items()
    }
    return Entry("mine", "Mine", "here", "none", True, "", specs, (packing,))


def read(tmp_path, splits, format, files):
    """Decodes `files`, a mapping from path to (bytes, gives)."""
    paths = {}
    for path, (data, _) in files.items():
        paths[path] = tmp_path / path
        paths[path].write_bytes(data)
    packing = Packing("original", format, tuple(File(path, len(d), "", gives) for path, (d, gives) in files.items()))
    return decode(entry(splits, packing), packing, paths)


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


class Python2Pickler(pickle._Pickler):
    """Pickles as Python 2 did: bytes are its strings, numpy's constructor under its old name."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, data: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch[bytes] = save_bytes

    def save_global(self, obj, name=None) -> None:
        if getattr(obj, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[type(len)] = save_global
    dispatch[type(npz)] = save_global


def pickled(batch) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(batch)
    return stream.getvalue()


def cifar_tar(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, **instead: bytes) -> bytes:
    """An archive like CIFAR-10's Python version: five training batches, one of test, and the names of the classes."""
    members = {"batches.meta": pickled({b"label_names": [b"airplane"]}), "readme.html": b"<html>"}
    batches = zip(np.array_split(x, 5), np.array_split(y, 5), strict=True)
    parts = {f"data_batch_{i}": part for i, part in enumerate(batches, 1)} | {"test_batch": (test_x, test_y)}
    for name, (images, labels) in parts.items():
        rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))
        members[name] = pickled({b"batch_label": name.encode(), b"labels": labels.tolist(), b"data": rows})
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in (members | instead).items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def cifar(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(256, size=(n, 32, 32, 3), dtype=np.uint8), rng.integers(10, size=n)


CIFAR = {
    "train": {"x": "uint8[10,32,32,3]", "y": "int64[10]"},
    "test": {"x": "uint8[4,32,32,3]", "y": "int64[4]"},
}


def test_npz_renames_widens_and_joins(tmp_path):
    found = read(
        tmp_path,
        {"train": {"x": "float32[3] from d", "y": "int64[3]"}, "test": {"x": "float32[1] from d", "y": "int64[1]"}},
        "npz",
        {
            "1.npz": (npz(d=np.float32([1, 2]), y=np.uint8([7, 8])), "train"),
            "2.npz": (npz(d=np.float32([3]), y=np.uint8([9])), "train"),
            "3.npz": (npz(d=np.float32([4]), y=np.uint8([200])), "test"),
        },
    )
    assert found["train"]["x"].tolist() == [1, 2, 3]
    assert found["train"]["y"].tolist() == [7, 8, 9]
    assert found["train"]["y"].dtype == np.int64
    assert found["test"]["y"].tolist() == [200]


def test_a_narrower_type_than_the_file_has_is_refused(tmp_path):
    with pytest.raises(TypeError, match="Cannot cast"):
        read(tmp_path, {"all": {"x": "uint8[2]"}}, "npz", {"1.npz": (npz(x=np.array([1, 300])), "")})


def test_an_array_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"all/x has shape \[2\], registered is \[3\]"):
        read(tmp_path, {"all": {"x": "int64[3]"}}, "npz", {"1.npz": (npz(x=np.array([1, 2])), "")})


def test_npz_never_unpickles(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, x=np.array([print], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read(tmp_path, {"all": {"x": "int64[1]"}}, "npz", {"1.npz": (stream.getvalue(), "")})


def test_residual_images_by_loops():
    rng = np.random.default_rng(0)
    rgb = rng.integers(256, size=(2, 5, 4, 3), dtype=np.uint8)
    planes = [rgb[..., 1], rgb[..., 0] - rgb[..., 1], rgb[..., 2] - rgb[..., 1]]
    residual = np.zeros((3, 2, 5, 4), np.uint8)
    for p in range(3):
        for n in range(2):
            for i in range(5):
                for j in range(4):
                    left = int(planes[p][n, i, j - 1]) if j else 0
                    up = int(planes[p][n, i - 1, j]) if i else 0
                    corner = int(planes[p][n, i - 1, j - 1]) if i and j else 0
                    residual[p, n, i, j] = (int(planes[p][n, i, j]) - left - up + corner) % 256
    np.testing.assert_array_equal(residual_to_rgb(residual), rgb)


def test_bits_of_one_and_of_several_axes(tmp_path):
    rng = np.random.default_rng(0)
    roll = rng.integers(2, size=(6, 88), dtype=np.uint8)
    glyphs = rng.integers(2, size=(3, 2, 5, 5), dtype=np.uint8)
    packed = npz(r=np.packbits(roll, axis=1), g=np.packbits(glyphs.reshape(3, 2, 25), axis=-1))
    splits = {"all": {"roll": "uint8[6,88] from bits(r)", "glyphs": "uint8[3,2,5,5] from bits(g)"}}
    found = read(tmp_path, splits, "npz", {"1.npz": (packed, "")})
    np.testing.assert_array_equal(found["all"]["roll"], roll)
    np.testing.assert_array_equal(found["all"]["glyphs"], glyphs)


def test_idx(tmp_path):
    x = np.random.default_rng(0).integers(256, size=(3, 4, 5), dtype=np.uint8)
    y = np.uint8([1, 2, 3])
    splits = {"train": {"x": "uint8[3,4,5]", "y": "int64[3]"}}
    found = read(tmp_path, splits, "idx", {"x.gz": (idx(x), "train/x"), "y.gz": (idx(y), "train/y")})
    np.testing.assert_array_equal(found["train"]["x"], x)
    assert found["train"]["y"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(b"\x89PNG....."), "is not an idx file"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x05abc"), "announces \\[5\\] but holds 3 bytes"),
        (gzip.compress(b""), "is not an idx file"),
    ],
    ids=["another format", "cut short", "empty"],
)
def test_other_files_than_idx_are_refused(tmp_path, data, says):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, {"train": {"y": "int64[5]"}}, "idx", {"y.gz": (data, "train/y")})


def test_cifar_archive(tmp_path):
    rng = np.random.default_rng(0)
    (x, y), (test_x, test_y) = cifar(rng, 10), cifar(rng, 4)
    found = read(tmp_path, CIFAR, "cifar_tar", {"c.tar.gz": (cifar_tar(x, y, test_x, test_y), "")})
    np.testing.assert_array_equal(found["train"]["x"], x)
    np.testing.assert_array_equal(found["train"]["y"], y)
    np.testing.assert_array_equal(found["test"]["x"], test_x)
    np.testing.assert_array_equal(found["test"]["y"], test_y)


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_pickled_by_python_3_are_read_too(protocol):
    x = np.arange(6, dtype=np.uint8).reshape(2, 3)
    found = ArrayUnpickler(io.BytesIO(pickle.dumps({"data": x, "labels": [1, 2]}, protocol))).load()
    np.testing.assert_array_equal(found["data"], x)
    assert found["labels"] == [1, 2]


class Malicious:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    import os

    witness = tmp_path / "witness"
    for call, arguments in (
        (os.mkdir, (str(witness),)),
        (eval, (f"open({str(witness)!r}, 'w')",)),
        (getattr, ([], "append")),
    ):
        evil = pickled({b"data": Malicious(call, *arguments), b"labels": []})
        rng = np.random.default_rng(0)
        archive = cifar_tar(*cifar(rng, 10), *cifar(rng, 4), data_batch_3=evil)
        with pytest.raises(pickle.UnpicklingError, match=f"refused: the pickle asks for .*{call.__name__}"):
            read(tmp_path, CIFAR, "cifar_tar", {"c.tar.gz": (archive, "")})
        assert not witness.exists()


def test_a_malicious_pickle_would_have_run(tmp_path):
    """The control: with the ordinary unpickler the same bytes act."""
    import os

    witness = tmp_path / "witness"
    pickle.loads(pickle.dumps(Malicious(os.mkdir, str(witness)), 2))
    assert witness.exists()


def test_attributes_of_allowed_names_are_refused():
    """Protocol 4 may name "dtype.type"-like paths, which getattr would follow."""
    data = b"\x80\x04\x8c\x05numpy\x8c\x16ndarray.__subclasses__\x93."
    with pytest.raises(pickle.UnpicklingError, match="refused"):
        ArrayUnpickler(io.BytesIO(data)).load()


def test_persistent_references_are_refused():
    with pytest.raises(pickle.UnpicklingError, match="outside itself"):
        ArrayUnpickler(io.BytesIO(b"Pfile\n.")).load()


def test_a_batch_of_other_rows_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    bad = pickled({b"labels": [1], b"data": np.zeros((1, 3071), np.uint8)})
    archive = cifar_tar(*cifar(rng, 10), *cifar(rng, 4), test_batch=bad)
    with pytest.raises(ValueError, match=r"test_batch .* does not hold rows of 3072 bytes"):
        read(tmp_path, CIFAR, "cifar_tar", {"c.tar.gz": (archive, "")})


def test_csv_types_and_missing_cells(tmp_path):
    text = 'a,b.c,d\n1,,"x, y"\n-2,NA,\n3,2.5,ü\n'
    splits = {"all": {"a": "int64[3]", "b_c": "float64[3] from b.c", "d": "<U4[3]"}}
    found = read(tmp_path, splits, "csv", {"t.csv.gz": (gzip.compress(text.encode()), "all")})["all"]
    assert found["a"].tolist() == [1, -2, 3]
    np.testing.assert_array_equal(found["b_c"], [np.nan, np.nan, 2.5])
    assert found["d"].tolist() == ["x, y", "", "ü"]
    with pytest.raises(ValueError, match="invalid literal"):
        read(tmp_path, {"all": {"a": "int64[1]"}}, "csv", {"t.csv.gz": (gzip.compress(b"a\nNA\n"), "all")})


def test_a_ragged_csv_is_refused(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        read(tmp_path, {"all": {"a": "int64[2]"}}, "csv", {"t.csv.gz": (gzip.compress(b"a,b\n1,2\n3\n"), "all")})


def test_tsv_one_file_a_split_or_split_by_a_column(tmp_path):
    one = {"all": {"label": "int64[2] from 0", "text": "<U3[2] from 1"}}
    found = read(tmp_path, one, "tsv", {"t.tsv": (b"1\tabc\n2\td\n", "all")})["all"]
    assert found["label"].tolist() == [1, 2]
    assert found["text"].tolist() == ["abc", "d"]
    lines = gzip.compress(b"train\t1\tabc\ndev\t0\td\ntrain\t2\te\n")
    by_split = {"train": {"y": "int64[2] from 1"}, "validation": {"y": "int64[1] from 1"}}
    found = read(tmp_path, by_split, "tsv_by_split", {"t.tsv.gz": (lines, "")})
    assert found["train"]["y"].tolist() == [1, 2]
    assert found["validation"]["y"].tolist() == [0]
    with pytest.raises(ValueError, match="holds the splits"):
        read(tmp_path, {"train": {"y": "int64[2] from 1"}}, "tsv_by_split", {"t.tsv.gz": (lines, "")})


def test_jpegs_in_a_zip(tmp_path):
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, colour in ((10, (0, 255, 0)), (2, (255, 0, 0))):
            jpeg = io.BytesIO()
            image.new("RGB", (8, 8), colour).save(jpeg, "JPEG", quality=95)
            archive.writestr(f"{number:03d}_n1.jpg", jpeg.getvalue())
    splits = {"all": {"x": "uint8[2,8,8,3]", "y": "int64[2]"}}
    found = read(tmp_path, splits, "jpeg_zip", {"i.zip": (stream.getvalue(), "")})["all"]
    assert found["y"].tolist() == [2, 10]
    # JPEG is lossy: a plain colour comes back within a few grey levels.
    np.testing.assert_allclose(found["x"][:, 0, 0].astype(int), [[255, 0, 0], [0, 255, 0]], atol=4)
