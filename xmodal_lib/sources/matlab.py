"""Variables of MATLAB files, the old ones by SciPy and those of version 7.3 (HDF5) by h5py, if that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io


def variables(path: Path, *names: str) -> list[np.ndarray]:
    """Variables of a file below version 7.3, without axes of length 1.

    Raises:
        ValueError: it is no such file, or lacks one of the variables.
    """
    try:
        found = scipy.io.loadmat(str(path), squeeze_me=True, variable_names=names)
        return [np.atleast_1d(found[name]) for name in names]
    except Exception as error:  # of a damaged file SciPy raises whatever comes
        raise ValueError(f"{path} is no MATLAB file with {', '.join(names)} ({type(error).__name__}: {error}); "
                         "fetch it again") from None  # fmt: skip


@contextmanager
def hdf5(path: Path) -> Iterator[Any]:
    """A file of version 7.3 as h5py shows it, with what goes wrong while it is read told by name.

    Raises:
        ImportError: h5py is not installed.
        ValueError: it is damaged, or lacks what is read.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{path.name} is an HDF5 file: install h5py to read it (pip install h5py)") from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged, or is not what its name says ({error}); fetch it again") from None


def texts(file: Any, name: str) -> list[str]:
    """A cell array of texts, out of an open file of version 7.3: references to rows of 16-bit characters."""
    return ["".join(map(chr, np.asarray(file[ref]).ravel())) for ref in np.asarray(file[name]).ravel()]
