"""SUN RGB-D (Song et al. 2015): 10,335 shots of rooms by four sensors, 47 kinds of room; image and depth.

`SUNRGBD/{kv1,kv2,realsense,xtion}/.../SHOT/` with `image/*.jpg`, `depth_bfx/*.png` (holes filled; `depth/*.png` is what
the sensor saw) and `scene.txt`, the kind of room; `SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat` lists train and test.
The folder given is the one that holds `SUNRGBD/`, or `SUNRGBD/` itself. All of it is documented.
Not checked: the 4,845 and 4,659 shots of the 19 usual kinds in train and test.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from xmodal_lib.sources import depth, listing, lists, matlab, visual
from xmodal_lib.sources.listing import Item
from xmodal_lib.sources.source import Source

SENSORS = ("kv1", "kv2", "realsense", "xtion")
SCENES = (
    "bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area", "dining_room",
    "discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre", "library", "living_room",
    "office", "rest_space", "study_space",
)  # fmt: skip
SPLIT = "traintestSUNRGBD/allsplit.mat"
LICENCE = "terms of its authors, also of NYU Depth V2, Berkeley B3DO and SUN3D, which it holds"


def load(root: str | Path, split: str = "random", seed: int = 0, every: bool = False) -> Source:
    """Image and depth of each shot, with its sensor as `camera`; the class is the kind of room, of the 19 usual ones.

    split: "random" (half of the classes are novel, drawn with `seed`: that of GTL is not known, nor whether it uses
    this set) or the path of a list of novel classes. `listed` is train or test of the published lists, if
    `allsplit.mat` is there. `every`: all kinds of room, also those of a few shots.

    Raises:
        FileNotFoundError: there is no shot.
        ValueError: an unknown split, or lists that cannot be read.
    """
    root = Path(root)
    top = root / "SUNRGBD" if (root / "SUNRGBD").is_dir() else root
    shots, lines = frames(top, SENSORS)
    if len(shots) != 10_335:
        lines.append(f"{len(shots)} shots are here; published are 10335")
    listed = published(top)
    shots = [replace(shot, listed=listed.get(shot.id, "")) for shot in shots]
    kept = [shot for shot in shots if every or shot.label in SCENES]
    said = [visual.left_out(len(shots) - len(kept), "shots of other rooms"), "no allsplit.mat" * (not listed)]
    return visual.build("sunrgbd", "shots", kept, ("image", "depth"), LICENCE, {} if every else {"classes": 19},
                        split=split, known={}, share=0.5, seed=seed, apart=False,
                        said="; ".join(filter(None, said)), lines=lines)  # fmt: skip


def frames(top: Path, folders: tuple[str, ...]) -> tuple[list[Item], list[str]]:
    """The shots below these folders of `top`, named by their paths, and lines of what is missing.

    Raises:
        ValueError: a `scene.txt` holds more than a name.
    """
    items, lines, nameless = [], [], []
    for folder in folders:
        found = sorted(f.parent for f in (top / folder).rglob("image") if f.is_dir())
        if not found:
            lines.append(f"{folder} is missing or holds no shots")
        for shot in found:
            scene = shot / "scene.txt"
            label = lists.text_of(scene).strip() if scene.is_file() else ""
            if not re.fullmatch(r"[\w ()/-]{0,60}", label):
                raise ValueError(f"{scene}: {label[:40]!r} is no kind of room")
            id = shot.relative_to(top).as_posix()
            if label:
                items.append(Item(id, label, media(shot), more={"camera": id.partition("/")[0]}))
            else:
                nameless.append(id)
    return items, lines + visual.some(nameless, "shots have no scene.txt, or an empty one, and are left out")


def media(shot: Path) -> dict[str, listing.Media]:
    """Image and depth of a shot; where there is none, the file that would be."""
    image = next(iter(visual.pictures(shot / "image")), shot / "image" / f"{shot.name}.jpg")
    filled = [*visual.pictures(shot / "depth_bfx"), *visual.pictures(shot / "depth")]
    deep = next(iter(filled), shot / "depth_bfx" / f"{shot.name}.png")
    return {"image": listing.picture(image), "depth": depth.picture(deep, rotated=True)}


def published(top: Path) -> dict[str, str]:
    """{path of a shot below SUNRGBD: "train" or "test"}; nothing if `allsplit.mat` is not there."""
    places = (top.parent / "SUNRGBDtoolbox" / SPLIT, top / "SUNRGBDtoolbox" / SPLIT, top.parent / SPLIT, top / SPLIT)
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        return {}
    pair = matlab.variables(path, "alltrain", "alltest")
    return {str(shot).rpartition("SUNRGBD/")[2].strip("/"): part
            for part, shots in zip(("train", "test"), pair, strict=True) for shot in shots}  # fmt: skip
