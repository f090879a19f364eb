"""Miniatures of the image sets of few-shot adaptation, of ESC-50 and of ImageNet-ESC, in their real layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.sources.layouts import colour, drawing, tone, write_jpg, write_lines, write_wav
from xmodal_lib.sources import image_sets, imagenet_esc, split_json

EACH = {"train": 4, "val": 3, "test": 2}  # pictures of a class
NAMES = {  # in the way of each data set; labels are not in the order of the alphabet, nor of the lists
    "caltech101": ("sea_horse", "crab", "airplane", "face"),
    "dtd": ("banded", "polka-dotted", "woven", "dotted"),
    "eurosat": ("Annual Crop Land", "Forest", "Sea or Lake", "River"),
    "fgvc_aircraft": ("707-320", "A300B4", "F/A-18", "DC-3 of old"),
    "eth_food101": ("apple_pie", "ramen", "baklava", "pad_thai"),
    "oxford_flowers": ("pink primrose", "moon orchid", "fire lily", "king protea"),
    "oxford_pets": ("Abyssinian", "Egyptian_Mau", "pug", "basset_hound"),
    "stanford_cars": ("2012 Audi R8 Coupe", "1993 Volvo 240 Sedan", "2007 Ford F-150", "2012 BMW Z4"),
    "sun397": ("abbey", "outdoor apartment_building", "indoor apse", "alley"),
    "ucf101": ("Apply_Eye_Makeup", "Archery", "Baby_Crawling", "Biking"),
}
SYNSETS = {"n01440764": "tench", "n03773504": "missile", "n04008634": "missile", "n04356056": "sunglasses",
           "n07747607": "orange", "n15075141": "toilet paper"}  # fmt: skip
SHIFTED = ("n01440764", "n04008634", "n07747607")  # the classes of A and R


def image_set(root: Path, name: str, more: int = 0, count: Mapping[str, int] = EACH, size: int = 16) -> None:
    """A target with a split file: four classes and `more`, `count` pictures of each, each list mixed."""
    known, rng = image_sets.SETS[name], np.random.default_rng(8)
    names = (*NAMES[name], *(f"kind {n}" for n in range(more)))
    rows: dict[str, list[tuple[str, int]]] = {}
    for part, each in count.items():
        made = []
        for c, label in enumerate(names):
            below = f"cars_{part}/" if name == "stanford_cars" else f"{label.replace(' ', '_')}/"
            for k in range(each):
                path = f"{below}{part}_{c}_{k}.jpg"
                write_jpg(root / known.images / path, drawing(c, len(names), size, rng))
                made.append((path, c))
        rows[part] = [made[i] for i in rng.permutation(len(made))]
    split_json.write(root / known.split, split_json.Lists(rows, names))


def aircraft(root: Path, size: int = 16) -> None:
    names, rng, number = NAMES["fgvc_aircraft"], np.random.default_rng(9), 34309
    write_lines(root / "variants.txt", names)
    for part, each in EACH.items():
        lines = []
        for c, name in enumerate(names):
            for _ in range(each):
                number += 7
                write_jpg(root / "images" / f"{number:07d}.jpg", drawing(c, len(names), size, rng))
                lines.append(f"{number:07d} {name}")
        write_lines(root / f"images_variant_{part}.txt", lines)


def imagenet(root: Path, size: int = 16) -> None:
    """Six classes, two of which have one name."""
    rng = np.random.default_rng(10)
    rows: dict[str, list[tuple[str, int]]] = {part: [] for part in EACH}
    for part, each in EACH.items():
        for c, synset in enumerate(SYNSETS):
            for k in range(each):
                path = f"{'val' if part == 'test' else 'train'}/{synset}/{synset}_{part}{k}.JPEG"
                write_jpg(root / "images" / path, drawing(c, len(SYNSETS), size, rng))
                rows[part].append((path, c))
    split_json.write(root / "split_ImageNet.json", split_json.Lists(rows, tuple(SYNSETS.values())))
    write_lines(root / "classnames.txt", [f"{synset} {name}" for synset, name in SYNSETS.items()])


def shift(root: Path, name: str, each: int = 2, size: int = 16) -> None:
    """Pictures of ImageNet's classes, in folders that are labels (V2) or ids."""
    rng = np.random.default_rng(11)
    for c, synset in enumerate(SYNSETS):
        if name in ("imagenet_a", "imagenet_r") and synset not in SHIFTED:
            continue
        folder = root / image_sets.SETS[name].images / (str(c) if name == "imagenetv2" else synset)
        for k in range(each):
            write_jpg(folder / f"{k}.jpeg", drawing(c, len(SYNSETS), size, rng))
    write_lines(root / image_sets.SETS[name].images / "README.txt", ["no picture"])
    write_lines(root / "classnames.txt", [f"{synset} {name}" for synset, name in SYNSETS.items()])


def esc50(root: Path, categories: Sequence[str] = ("dog", "rain", "rooster", "sea_waves"), each: int = 8) -> None:
    """Clips of a tenth of a second, `each` of a category in each of five folds, in ESC-50-master/."""
    rng, lines = np.random.default_rng(12), ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for k in range(each):
            for target, name in enumerate(categories):
                file = f"{fold}-{100_000 + 100 * k + target}-A-{target}.wav"
                lines.append(f"{file},{fold},{target},{name},False,{100_000 + k},A")
                write_wav(root / "ESC-50-master" / "audio" / file, tone(target % 9, 0.1, rng))
    write_lines(root / "ESC-50-master" / "meta" / "esc50.csv", lines)


def both(root: Path) -> None:
    """ImageNet's lists with 980 classes, of which only the 27 have files; ESC-50 with their sounds and one more."""
    labels = {pair.imagenet for pair in imagenet_esc.pairs()}
    names = tuple(f"thing {label}" for label in range(980))
    each = {"train": 5, "val": 4, "test": 2}
    rows = {part: [(f"{part}/{label:03d}/{k}.JPEG", label) for label in range(980) for k in range(n)]
            for part, n in each.items()}  # fmt: skip
    for path, label in (row for part in rows.values() for row in part):
        if label in labels:
            write_jpg(root / "imagenet" / "images" / path, Image.new("RGB", (8, 8), colour(label, 980)))
    split_json.write(root / "imagenet" / "split_ImageNet.json", split_json.Lists(rows, names))
    esc50(root / "esc-50", [*(pair.sound for pair in imagenet_esc.pairs()), "rain"])


PICTURES: dict[str, Callable[[Path], None]] = {
    **{name: (lambda root, name=name: image_set(root, name)) for name in NAMES if name != "fgvc_aircraft"},
    "fgvc_aircraft": aircraft,
    "imagenet": imagenet,
    **{name: (lambda root, name=name: shift(root, name)) for name in image_sets.SHIFTS},
    "esc50": esc50,
    "imagenet_esc": both,
}
