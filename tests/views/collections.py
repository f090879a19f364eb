"""Small collections for the tests of the explorers: a coloured picture, its name and a tone are one item."""

import numpy as np
import pandas as pd
from PIL import Image

from xmodal_lib.views.collection import Collection

RATE = 16_000
KINDS = ("image", "text", "speech")


def colour(item: int) -> tuple[int, int, int]:
    """Of the picture of an item; those of items 0 to 26 are far apart."""
    return (item % 3) * 120, (item // 3 % 3) * 120, (item // 9 % 3) * 120


def tone(item: int, seconds: float = 0.3) -> np.ndarray:
    return (0.4 * np.sin(np.arange(int(RATE * seconds)) * (0.1 + 0.01 * (item % 40)))).astype(np.float32)


def opened(kind: str, item: int):
    return {"image": lambda: Image.new("RGB", (40, 40), colour(item)), "text": lambda: f"name of {item}",
            "speech": lambda: (tone(item), RATE)}[kind]()  # fmt: skip


def small(items: int = 27, classes: int = 3, seed: int = 0, **changes) -> Collection:
    """`items` items of three modalities in two spaces, each with a map; every second prediction is right."""
    rng = np.random.default_rng(seed)
    lines = [(kind, item) for kind in KINDS for item in range(items)]
    points = pd.DataFrame({"row": [f"{k}:{i}" for k, i in lines], "item": [i for _, i in lines],
                           "modality": [k for k, _ in lines], "class": [f"class {i % classes}" for _, i in lines],
                           "name": [f"name of {i}" for _, i in lines],
                           "predicted": [f"class {i % classes if i % 2 else 0}" for _, i in lines],
                           "margin": rng.normal(size=len(lines))})  # fmt: skip
    spaces = {name: rng.normal(size=(len(lines), 8)).astype(np.float32) for name in ("before", "after")}
    maps = {f"map {name}": rng.uniform(0, 10, (len(lines), 2)).astype(np.float32) for name in spaces}
    about = {
        f"map {name}": {"space": name, "quality": {}, "note": f"Trust the map {name} a little."} for name in spaces
    }
    opens = {kind: lambda item, kind=kind: opened(kind, item) for kind in KINDS}
    return Collection(**{"points": points, "spaces": spaces, "maps": maps, "about": about, "open": opens, **changes})
