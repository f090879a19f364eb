"""NYU Depth V2 (Silberman et al. 2012): 1,449 labelled shots of rooms, 27 kinds of room; image and depth.

mat: `nyu_depth_v2_labeled.mat`, as distributed: an HDF5 file (h5py must be installed) with `images` (n, 3, w, h),
`depths` (n, w, h) in metres, holes filled, `sceneTypes` and `scenes`; `splits.mat` beside it lists train and test.
sunrgbd: the same shots as SUN RGB-D has them, `kv1/NYUdata/NYU0001` to `NYU1449` (see `sunrgbd`), cut a little smaller.
Documented: both. Our reading: the numbers of the second are those of the first. Other unpacked copies have no label of
the room and are not read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from xmodal_lib.sources import depth, matlab, sunrgbd, visual
from xmodal_lib.sources.listing import Item, Media
from xmodal_lib.sources.source import Source

FILE, SHOTS = "nyu_depth_v2_labeled.mat", 1449
SCENES = ("bathroom", "bedroom", "bookstore", "classroom", "dining_room", "home_office", "kitchen", "living_room",
          "office")  # fmt: skip
LICENCE = "terms of its authors (cs.nyu.edu/~silberman)"


def load(root: str | Path, split: str = "random", layout: str = "", seed: int = 0, every: bool = False) -> Source:
    """Image and depth of each shot; the class is the kind of room, `group` the room (in the layout "mat").

    Classes are the nine that the usual ten name; the tenth, all others together, is left out unless `every` is set,
    which takes each of the 27. split: "random" (half of the classes are novel, drawn with `seed`: that of GTL is not
    known, nor whether it uses this set) or the path of a list of novel classes. `listed` is train or test of the
    published lists, if `splits.mat` is there. layout: "mat", "sunrgbd", or "" for the one that is there.

    Raises:
        FileNotFoundError: there is no shot.
        ImportError: the layout is "mat" and h5py is not installed.
        ValueError: an unknown split or layout, or a file that is not of its form.
    """
    root = Path(root)
    if layout not in ("", "mat", "sunrgbd"):
        raise ValueError(f"layout is {layout!r}; give 'mat', 'sunrgbd', or '' for the one that is there")
    top = next((f for f in (root, root / "SUNRGBD") if (f / "kv1" / "NYUdata").is_dir()), None)
    if (root / FILE).is_file() and layout != "sunrgbd":
        shots, lines = _stored(root / FILE), list[str]()
    elif top and layout != "mat":
        shots, lines = sunrgbd.frames(top, ("kv1/NYUdata",))
    else:
        raise FileNotFoundError(f"{root} has neither {FILE} nor kv1/NYUdata, or not the one that `layout` asks for; "
                                "`xmodal data get nyud` says where they are from")  # fmt: skip
    if len(shots) != SHOTS:
        lines.append(f"{len(shots)} shots are here; published are {SHOTS}")
    listed = published(root / "splits.mat")
    shots = [replace(shot, listed=listed.get(number(shot.id), "")) for shot in shots]
    kept = [shot for shot in shots if every or shot.label in SCENES]
    said = [visual.left_out(len(shots) - len(kept), "shots of other rooms"), "no splits.mat" * (not listed)]
    return visual.build("nyud", "shots", kept, ("image", "depth"), LICENCE, {"classes": 27 if every else 9},
                        split=split, known={}, share=0.5, seed=seed, by="room",
                        apart=False, said="; ".join(filter(None, said)), lines=lines)  # fmt: skip


def published(path: Path) -> dict[int, str]:
    """{number of a shot, from 1: "train" or "test"}; nothing if `splits.mat` is not there."""
    if not path.is_file():
        return {}
    pair = matlab.variables(path, "trainNdxs", "testNdxs")
    return {int(n): part for part, numbers in zip(("train", "test"), pair, strict=True) for n in numbers}


def number(id: str) -> int:
    """The number of a shot, 0 if it has none.

    >>> number("kv1/NYUdata/NYU0012")
    12
    """
    match = re.search(r"NYU(\d+)$", id)
    return int(match[1]) if match else 0


def _stored(path: Path) -> list[Item]:
    with matlab.hdf5(path) as file:
        kinds, rooms = matlab.texts(file, "sceneTypes"), matlab.texts(file, "scenes")
        shapes = file["images"].shape, file["depths"].shape
    if shapes[0][:2] != (len(kinds), 3) or shapes[1] != (len(kinds), *shapes[0][2:]) or len(rooms) != len(kinds):
        raise ValueError(f"{path}: images {shapes[0]}, depths {shapes[1]}, {len(kinds)} sceneTypes and {len(rooms)} "
                         "scenes do not fit together; fetch it again")  # fmt: skip
    return [
        Item(f"NYU{n + 1:04d}", kind,
             {"image": Media(partial(_image, path, n), (path,), detail=str(n)),
              "depth": Media(partial(_depth, path, n), (path,), detail=f"{n} depth to {depth.FAR:g} m")},
             room, more={"camera": "kv1"})
        for n, (kind, room) in enumerate(zip(kinds, rooms, strict=True))
    ]  # fmt: skip


def _image(path: Path, n: int) -> Image.Image:
    with matlab.hdf5(path) as file:
        return Image.fromarray(np.ascontiguousarray(np.asarray(file["images"][n], np.uint8).transpose(2, 1, 0)))


def _depth(path: Path, n: int) -> Image.Image:
    with matlab.hdf5(path) as file:
        return depth.shown(np.asarray(file["depths"][n], np.float32).T)
