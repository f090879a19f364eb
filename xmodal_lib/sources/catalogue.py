"""The data sets that are known by name, and the door for your own: what `xmodal data list|get|check` shows."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_lib.home import home
from xmodal_lib.sources import image_sets

if TYPE_CHECKING:
    from xmodal_lib.sources.packages import Package
    from xmodal_lib.sources.source import Source

# a source is imported when it is first asked for: each brings libraries of its own


@dataclass(frozen=True)
class Entry:
    """One data set: `get` fetches and builds what is missing, `check` looks without fetching; both say what is here.

    `check` raises FileNotFoundError where something is missing, and ValueError or Unusable where it is damaged.
    """

    name: str
    description: str
    licence: str
    get: Callable[[], str]
    check: Callable[[], str]
    fetches: bool = False  # whether `get` has anything to fetch, so that something can be missing
    folder: Path | None = None  # of a data set that nobody needs to have and only its user can get


# what they are, licence, where they are from and which of it is needed; each has a module of its name, but image sets
LISTED = {
    "cremad": (
        "CREMA-D: 7,442 acted clips in six emotions, sound and video",
        "Open Database License (ODbL) 1.0",
        "AudioWAV/ and VideoFlash/ of github.com/CheyneyComputerScience/CREMA-D (by git lfs); for the published split "
        "also train.csv and test.csv of github.com/GeWu-Lab/OGM-GE_CVPR2022, data/CREMAD",
    ),
    "kinetics_sounds": (
        "Kinetics-Sounds: 17,396 clips of 31 actions one can hear, sound and video",
        "videos: of their YouTube authors; lists: OGM-GE (MIT)",
        "my_train.txt and my_test.txt of github.com/GeWu-Lab/OGM-GE_CVPR2022, data/KineticSound, and the clips they "
        "name, out of Kinetics-400 (github.com/cvdfoundation/kinetics-dataset), in video/",
    ),
    "food101": (
        "UPMC Food-101: 90,685 recipe pages of 101 dishes, picture and title",
        "for research; pictures and titles are of the web pages they come from",
        "images/ and texts/ of kaggle.com/datasets/gianmarco96/upmcfood101; train.jsonl, dev.jsonl and test.jsonl in "
        "MMBT's form, if you have them",
    ),
    "mvsa": (
        "MVSA-Single: 4,869 tweets labelled with their sentiment, picture and text",
        "for research; texts and pictures are of the authors of the tweets",
        "data/ and labelResultAll.txt of mcrlab.net/research/mvsa-sentiment-analysis-on-multi-view-social-data, and "
        "train.jsonl, dev.jsonl and test.jsonl of github.com/QingyangZhang/QMF, "
        "text-image-classification/datasets/MVSA_Single",
    ),
    "iemocap": (
        "IEMOCAP: 5,531 utterances in four emotions, sound, video and text",
        "on request from USC SAIL: for research, not to be passed on",
        "Session1/ to Session5/, which sail.usc.edu/iemocap sends on request; for the published split also "
        "my_train_iemo.txt and my_test_iemo.txt of "
        "github.com/Cecile-hi/Multimodal-Learning-with-Alternating-Unimodal-Adaptation, data",
    ),
    "yummly": (
        "Yummly-28K: 27,638 recipes in 44 classes of cuisine and course, picture and ingredients",
        "for research; pictures and recipes are of the sites they come from",
        "images27638/ and metadata27638/ of Yummly-28K (Min et al., 2017)",
    ),
    "cifar_esc": (
        "CIFAR-10, CIFAR-100 and ESC-50: pictures and sounds of 17 shared concepts",
        "CIFAR: for research; ESC-50: CC BY-NC 3.0",
        "cifar-10-batches-bin/ and cifar-100-binary/, the binary versions of cs.toronto.edu/~kriz/cifar.html, and "
        "ESC-50-master/ of github.com/karolpiczak/ESC-50",
    ),
    "wilderness": (
        "CMU Wilderness: the New Testament read in some 700 languages, text and sound of each verse",
        "recordings and texts: of Bible.is, for your own use; alignments: CMU",
        "a folder a language with wav/ and etc/txt.done.data, which the scripts of "
        "github.com/festvox/datasets-CMU_Wilderness make of recordings of Bible.is",
    ),
    "sketchy": (
        "Sketchy with extended photos: 73,002 photos and some 75,000 sketches of 125 classes",
        "terms of its authors (sketchy.eye.gatech.edu); photos are of ImageNet",
        "256x256/ of the Sketchy database (sketchy.eye.gatech.edu) and EXTEND_image_sketchy/, the extended photos, "
        "which repositories on zero-shot sketch-based image retrieval link to",
    ),
    "tuberlin": (
        "TU-Berlin with extended photos: 204,489 photos and 20,000 sketches of 250 classes",
        "sketches: CC BY 4.0; photos: of their authors",
        "png/ of cybertron.cg.tu-berlin.de/eitz/projects/classifysketch and ImageResized/, the extended photos, "
        "which repositories on zero-shot sketch-based image retrieval link to",
    ),
    "market_sketch": (
        "Market-Sketch-1K: 996 persons seen by cameras and drawn by six artists, photo and sketch",
        "sketches: CC BY-NC-SA 4.0; photos: Market-1501, for research",
        "photo/ and sketch/ of the data set that github.com/Lin-Kayla/subjectivity-sketch-reid links to",
    ),
    "sksf_a": (
        "SKSF-A: 134 faces, each a photo and sketches in seven styles",
        "none is stated; ask the authors",
        "Photo/ and style1/ to style7/ of the archive that github.com/kwanyun/SKSF-A links to",
    ),
    "sysu_mm01": (
        "SYSU-MM01: 491 persons seen by four colour and two infrared cameras",
        "on request from its authors, by a signed agreement: for research, not to be passed on",
        "cam1/ to cam6/ and exp/ of SYSU-MM01.zip, which the authors send on request (github.com/wuancong/SYSU-MM01)",
    ),
    "nyud": (
        "NYU Depth V2: 1,449 labelled shots of rooms, colour and depth",
        "terms of its authors (cs.nyu.edu/~silberman)",
        "nyu_depth_v2_labeled.mat of cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html (reading it needs h5py) and "
        "splits.mat of the same page; or kv1/NYUdata/ out of SUN RGB-D",
    ),
    "sunrgbd": (
        "SUN RGB-D: 10,335 shots of rooms by four sensors, colour and depth",
        "terms of its authors, also of NYU Depth V2, Berkeley B3DO and SUN3D, which it holds",
        "SUNRGBD/ (SUNRGBD.zip) and, for the published lists, SUNRGBDtoolbox/ of rgbd.cs.princeton.edu",
    ),
    **{s.name: (s.title, s.licence, s.needed) for s in image_sets.SETS.values()},
    "esc50": (
        "ESC-50: 2,000 sounds of five seconds in 50 classes and five folds",
        "CC BY-NC 3.0",
        "meta/ and audio/, or ESC-50-master/ with them in it, of github.com/karolpiczak/ESC-50",
    ),
    "imagenet_esc": (
        "ImageNet-ESC: the 27 (or 19) classes that ImageNet shows and ESC-50 sounds of",
        "ImageNet: on registration, for research; ESC-50: CC BY-NC 3.0",
        "imagenet/ and esc-50/ as the entries imagenet and esc50 say (links will do; or give --root, the folder that "
        "holds both)",
    ),
}
FOLDERS = {s.name: s.folder for s in image_sets.SETS.values()} | {"esc50": "esc-50"}  # where it is not the name
MLA = ("cremad", "kinetics_sounds", "food101", "mvsa", "iemocap")  # of which its scripts make a layout of their own
OPENED = (  # of these a check opens every file, which may take minutes
    *("sketchy", "tuberlin", "market_sketch", "sksf_a", "sysu_mm01", "nyud", "sunrgbd"),
    *(name for name in image_sets.SETS if name != "imagenet"),
)


def entries() -> list[Entry]:
    """The data sets that are known by name."""
    return [
        Entry(
            "emoji",
            "861 concepts drawn in nine styles, named in words, spoken; fetches about 30 MB of pinned npm packages",
            "by drawing set: Apache-2.0, MIT, CC BY 4.0, CC BY-SA 4.0; speech by eSpeak NG (GPL-3)",
            partial(_get_fetched, "emoji"),
            partial(_check_fetched, "emoji"),
            fetches=True,
        ),
        Entry(
            "languages",
            "96 names of emoji written and spoken in about 85 languages; fetches two of the pinned npm packages",
            "names Unicode-3.0 (CLDR); speech by eSpeak NG (GPL-3)",
            partial(_get_fetched, "languages"),
            partial(_check_fetched, "languages"),
            fetches=True,
        ),
        Entry(
            "digits",
            "1,797 handwritten digits of 8x8 pixels, phrases that name them, spoken names; fetches nothing",
            "scans CC BY 4.0 (UCI); speech by eSpeak NG (GPL-3)",
            lambda: _said(_digits()),
            lambda: _said(_digits()),
        ),
        Entry(
            "manifest",
            "your own data: give a path in place of a name. A CSV with columns image,text,audio,label,split,item (any "
            "of the first three may be empty, paths relative to the CSV), a folder of pictures for each class, or a "
            "split file in CoOp's form (.json, beside its pictures)",
            "yours to state",
            lambda: "nothing to fetch; `xmodal data check PATH` reads your data and says what it found",
            lambda: "nothing to look at; `xmodal data check PATH` reads your data and says what it found",
        ),
        *(_listed(name) for name in LISTED),
    ]


def entry(name: str, root: str | Path = "") -> Entry:
    """The entry of a name, or one made for the path of your own data; `root` replaces `place(name)`.

    Raises:
        ValueError: there is neither such a name nor such a path, or the name's files have no folder to be in.
    """
    known = {e.name: e for e in entries()}
    if name in LISTED:
        return _listed(name, root)
    if root:
        raise ValueError(f"root is for {', '.join(LISTED)}; {name!r} has none")
    if name in known:
        return known[name]
    if Path(name).exists():
        look = partial(_found, Path(name))
        return Entry(name, "your own data", "yours to state", look, look)
    near = difflib.get_close_matches(name, known, 1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}, or give the path of a CSV or folder"
    )
    raise ValueError(f"there is no data set, file or folder {name!r}; {hint}")


def place(name: str) -> Path:
    """Where the files of such a data set are looked for: in $XMODAL_DATA/NAME, or below the cache folder.

    Image sets have the folders of their release there: caltech101 is in $XMODAL_DATA/caltech-101.
    """
    return Path(os.environ.get("XMODAL_DATA") or home() / "datasets") / FOLDERS.get(name, name)


def load(name: str, root: str | Path = "", **options: Any) -> Source:
    """The source of a name, or of a path: a CSV, a folder with a folder of pictures for each class, or a split file.

    `root` is the folder of one of `LISTED`, `place(name)` if it is empty, and `options` are those of its module's
    `load`, such as split="published".

    Raises:
        FileNotFoundError: what the source needs is not there.
        ValueError: there is neither such a name nor such a path, or the data are not what they should be.
    """
    if name in LISTED:
        folder = Path(root or place(name))
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}; {_how(name, folder)}")
        if name in image_sets.SETS:
            from xmodal_lib.sources import picture_lists

            return picture_lists.load(folder, name, **options)
        return importlib.import_module(f"xmodal_lib.sources.{name}").load(folder, **options)
    if root or options:
        raise ValueError(f"{name} takes no {', '.join(['root'] * bool(root) + [*options])}; {', '.join(LISTED)} do")
    if name == "emoji":
        from xmodal_lib.sources import emoji

        return emoji.load()
    if name == "languages":
        from xmodal_lib.sources import languages

        return languages.load()
    if name == "digits":
        return _digits()
    return _own(Path(entry(name).name))


def _listed(name: str, root: str | Path = "") -> Entry:
    description, licence, _ = LISTED[name]
    folder = Path(root or place(name))
    said = partial("this one is yours to fetch: {}".format, _how(name, folder))
    return Entry(name, description, licence, said, partial(_check_listed, name, folder), folder=folder)


def _how(name: str, folder: Path) -> str:
    also = " (what MLA's scripts made of it does as well)" * (name in MLA)
    return f"get {LISTED[name][2]}; put it all into {folder}{also}"


def _check_listed(name: str, folder: Path) -> str:
    """What is here, if nothing is missing or broken."""
    source = load(name, folder)
    report = source.report
    if name in OPENED:
        from xmodal_lib.sources import visual

        report = "\n".join([report, *visual.unreadable(source)])
    if "\n" in report:
        raise FileNotFoundError(report.replace("\n", "\n  ") + f"\n  {_how(name, folder)}")
    return report


def _own(path: Path) -> Source:
    from xmodal_lib.sources import manifest

    if path.name == "manifest" and not path.exists():
        raise ValueError("manifest stands for your own data: give the path of a CSV or of a folder instead")
    if path.suffix == ".json":
        from xmodal_lib.sources import picture_lists

        return picture_lists.from_split(path)
    return manifest.folders(path) if path.is_dir() else manifest.read(path)


def _found(path: Path) -> str:
    from xmodal_lib.sources import manifest

    source = _own(path)
    if "\n" in source.report:
        raise FileNotFoundError(source.report.replace("\n", "\n  "))
    return source.report or manifest.found(source)


def _digits() -> Source:
    from xmodal_lib.sources import digits

    return digits.load()


def _get_fetched(name: str) -> str:
    from xmodal_lib.sources import packages

    packages.fetch_all(_packages(name))
    return _said(load(name))


def _check_fetched(name: str) -> str:
    """Every file of every package against the checksum it was unpacked with."""
    from xmodal_lib.sources import packages

    known = _packages(name)
    missing = [str(package) for package in known if not (package.folder / packages.STAMP).is_file()]
    if missing:
        more = ", ..." if len(missing) > 1 else ""
        raise FileNotFoundError(f"{len(missing)} of {len(known)} packages are missing ({missing[0]}{more})")
    count = 0
    for package in known:
        paths = packages.files(package)
        packages.read_many(package, paths)
        count += len(paths)
    return f"{len(known)} packages, {count} files, all as fetched"


def _packages(name: str) -> list[Package]:
    """What a data set reads."""
    from xmodal_lib.sources import packages

    if name == "emoji":
        return list(packages.PACKAGES.values())
    from xmodal_lib.sources import languages

    return [packages.PACKAGES["emojibase-data"], languages.CLDR]


def _said(source: Source) -> str:
    rows = ", ".join(f"{m} {len(t)}" for m, t in source.tables.rows.items())
    return f"{len(source.tables.classes)} classes; rows: {rows}"
