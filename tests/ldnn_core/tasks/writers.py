"""Small files of the published formats, written without the code that reads them."""

import gzip
import struct

import numpy as np

CLASSES = 10


def pictures(rows, shape, seed):
    """Pictures of ten classes, of unsigned bytes, with the class in their brightness; no two are alike."""
    source = np.random.default_rng(seed)
    labels = source.permutation(np.arange(rows) % CLASSES).astype(np.uint8)
    x = source.integers(0, 60, (rows, *shape)) + 15 * labels.reshape(-1, *[1] * len(shape))
    return x.astype(np.uint8), labels


def idx_bytes(array, kind=8):
    """An array as IDX."""
    return bytes([0, 0, kind, array.ndim]) + b"".join(struct.pack(">i", n) for n in array.shape) + array.tobytes()


def write_idx_folder(folder, *, rows=300, test_rows=60, compressed=True):
    """The four files of MNIST, with as many rows as asked for; returns learning and test rows."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = pictures(rows, (28, 28), 1), pictures(test_rows, (28, 28), 2)
    for stem, (x, y) in zip(("train", "t10k"), parts, strict=True):
        for name, array in ((f"{stem}-images-idx3-ubyte", x), (f"{stem}-labels-idx1-ubyte", y)):
            content = idx_bytes(array)
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(content, 1) if compressed else content)
    return parts


def binput(number):
    return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<i", number)


def text(value):
    """A string of Python 2."""
    return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value


def number(value):
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)


def python_batch(x, y, *, name=b"training batch 1 of 5"):
    """A batch as Python 2 pickled it with protocol 2, from the description of the opcodes in pickletools."""
    kind = b"cnumpy\ndtype\n" + binput(20) + text(b"u1") + number(0) + number(1) + b"\x87R" + binput(21)
    kind += b"(" + number(3) + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + number(0) + b"tb"
    data = b"cnumpy.core.multiarray\n_reconstruct\n" + binput(7) + b"cnumpy\nndarray\n" + binput(8)
    data += number(0) + b"\x85" + binput(9) + text(b"b") + b"\x87" + binput(10) + b"R" + binput(11)
    data += b"(" + number(1) + number(x.shape[0]) + number(x.shape[1]) + b"\x86" + kind + b"\x89"
    data += text(x.tobytes()) + binput(300) + b"tb"
    labels = b"]" + binput(5) + b"(" + b"".join(number(int(one)) for one in y) + b"e"
    files = b"](" + b"".join(text(b"picture_%d.png" % i) for i in range(len(y))) + b"e"
    entries = text(b"batch_label") + binput(2) + text(name) + text(b"labels") + labels
    entries += text(b"data") + data + text(b"filenames") + files
    return b"\x80\x02}" + binput(1) + b"(" + entries + b"u."


def write_cifar_folder(folder, *, binary, rows=20, test_rows=40):
    """Six batches of CIFAR-10 with as many rows each as asked for; returns learning and test rows."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = [pictures(rows, (3, 32, 32), seed) for seed in range(5)] + [pictures(test_rows, (3, 32, 32), 9)]
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name, (x, y) in zip(names, batches, strict=True):
        flat = x.reshape(len(x), -1)
        if binary:
            (folder / f"{name}.bin").write_bytes(
                b"".join(bytes([one]) + row.tobytes() for one, row in zip(y, flat, strict=True))
            )
        else:
            (folder / name).write_bytes(python_batch(flat, y))
    learning = tuple(np.concatenate([batch[part] for batch in batches[:-1]]) for part in (0, 1))
    return learning, batches[-1]


def write_npz(path, *, regression=False, rows=60):
    """A user's file."""
    source = np.random.default_rng(3)
    x = source.normal(size=(rows, 4)) * [1, 10, 100, 0] + [0, 5, 0, 7]
    y = np.stack([x[:, 0] * 3 + 1, x[:, 1]], axis=1) if regression else np.arange(rows) % 3
    np.savez(path, x=x, y=y)
    return x, y
