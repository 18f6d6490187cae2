"""Files: a tree of numbers, texts, lists, dicts and arrays, written whole or not at all, nothing pickled."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

__all__ = ["read", "write", "write_atomically"]


def write(path: str | os.PathLike[str], tree: dict[str, Any]) -> Path:
    """Write a tree to an npz archive: its arrays bit for bit, the rest as JSON.

    Raises
    ------
    TypeError
        If the tree holds something that is not a number, text, list, dict, array or sparse matrix.
    OSError
        If the folder cannot be written.
    """
    arrays: dict[str, Any] = {}
    text = json.dumps(_pack(tree, arrays)).encode()
    buffer = io.BytesIO()
    np.savez(buffer, tree=np.frombuffer(text, dtype=np.uint8), **arrays)
    return write_atomically(path, buffer.getvalue())


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a tree written by `write`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file.
    """
    with open(path, "rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as archive:
                tree = json.loads(archive["tree"].tobytes())
                result = _unpack(tree, archive)
        except (ValueError, KeyError, OSError, EOFError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)} is not a file saved by lionode: {error}") from None
    if not isinstance(result, dict):
        raise ValueError(f"{os.fspath(path)} is not a file saved by lionode")
    return result


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write bytes to a temporary file beside `path`, then rename it: a reader never sees half a file."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def _pack(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, np.ndarray):
        key = f"array{len(arrays)}"
        arrays[key] = value
        return {"$array": key}
    if scipy.sparse.issparse(value):
        coo = value.tocoo()
        parts = {"data": coo.data, "row": coo.row, "col": coo.col, "shape": list(coo.shape)}
        return {"$sparse": _pack(parts, arrays)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): _pack(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item, arrays) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be written to a file: {value!r}")


def _unpack(value: Any, archive: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(item, archive) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$array"}:
        return archive[value["$array"]]
    if set(value) == {"$sparse"}:
        parts = _unpack(value["$sparse"], archive)
        coo = scipy.sparse.coo_array(
            (parts["data"], (parts["row"], parts["col"])), shape=tuple(parts["shape"])
        )
        return coo.tocsr()
    return {key: _unpack(item, archive) for key, item in value.items()}
