"""Facts of the data sets of few-shot adaptation: eleven targets, four shifts of ImageNet; folders, sizes, sentences.

Source: Zhou et al., IJCV 2022 (CoOp), whose folders and split files these are; Lin et al., CVPR 2023 (arXiv
2301.06267), who hold a fifth of ImageNet's training rows out for validation. Sizes of Food-101, SUN397, aircraft and
ImageNet are as published, those of the others as counted in the split files. `picture_lists.load` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_lib.home import is_file

PHOTO = ("a photo of a {}.",)
IMAGENET = (  # seven that CLIP's authors chose
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.",
    "art of the {}.", "a photo of the small {}.",
)  # fmt: skip
MODES = ("hand_crafted", "vanilla", "classname")  # or a list of templates


@dataclass(frozen=True)
class ImageSet:
    name: str
    title: str
    licence: str
    origin: str  # of the pictures
    folder: str  # its usual name
    images: str  # what the paths of its lists begin below; "" is the folder itself
    split: str  # the split file; "" where its own lists or folders say it
    classes: int
    sizes: dict[str, int]  # published
    templates: tuple[str, ...] = PHOTO  # hand-crafted, as Tip-Adapter has them

    @property
    def needed(self) -> str:
        """What to get, and from where."""
        if self.name == "imagenet":
            return (f"{self.origin}, and {self.split} and classnames.txt, which DATASETS.md of "
                    "github.com/linzhiqiu/cross_modal_adaptation links to")  # fmt: skip
        if self.split:
            return (f"{self.origin}, and {self.split} of github.com/linzhiqiu/cross_modal_adaptation, splits "
                    "(it is CoOp's)")  # fmt: skip
        return self.origin


def _sizes(train: int, val: int, test: int) -> dict[str, int]:
    return {"train": train, "val": val, "test": test}


OWN_NAMES = "and a copy of ImageNet's classnames.txt (that of a folder imagenet/ beside it does as well)"
SETS = {s.name: s for s in (
    ImageSet("imagenet", "ImageNet: 1.28 million photos of 1,000 classes; image and class prompts",
             "on registration: for research, not to be passed on",
             "images/train/ and images/val/, both with a folder for each class, of image-net.org",
             "imagenet", "images", "split_ImageNet.json", 1000, {"test": 50_000}, IMAGENET),
    ImageSet("caltech101", "Caltech-101: 8,242 photos of 100 kinds of thing; image and class prompts",
             "CC BY 4.0", "101_ObjectCategories/ of data.caltech.edu/records/20086",
             "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", 100, _sizes(4128, 1649, 2465)),
    ImageSet("dtd", "Describable Textures: 5,640 photos of 47 textures; image and class prompts",
             "for research; photos are of their authors", "images/ of robots.ox.ac.uk/~vgg/data/dtd",
             "dtd", "images", "split_zhou_DescribableTextures.json", 47, _sizes(2820, 1128, 1692), ("{} texture.",)),
    ImageSet("eurosat", "EuroSAT: 27,000 satellite pictures of 10 kinds of land; image and class prompts",
             "MIT; data of Copernicus Sentinel", "2750/, the colour pictures, of github.com/phelber/EuroSAT",
             "eurosat", "2750", "split_zhou_EuroSAT.json", 10, _sizes(13_500, 5400, 8100),
             ("a centered satellite photo of {}.",)),
    ImageSet("fgvc_aircraft", "FGVC-Aircraft: 10,000 photos of 100 variants of aircraft; image and class prompts",
             "for non-commercial research", "images/ and the .txt files of data/ of robots.ox.ac.uk/~vgg/data/"
             "fgvc-aircraft (2013b)",
             "fgvc_aircraft", "images", "", 100, _sizes(3334, 3333, 3333), ("a photo of a {}, a type of aircraft.",)),
    ImageSet("eth_food101", "Food-101 of ETH: 101,000 photos of 101 dishes; image and class prompts",
             "for research; photos are of their authors",
             "images/ of data.vision.ee.ethz.ch/cvl/datasets_extra/food-101",
             "food-101", "images", "split_zhou_Food101.json", 101, _sizes(50_500, 20_200, 30_300),
             ("a photo of {}, a type of food.",)),
    ImageSet("oxford_flowers", "Flowers-102: 8,189 photos of 102 flowers; image and class prompts",
             "none is stated; photos are of their authors", "jpg/ of robots.ox.ac.uk/~vgg/data/flowers/102",
             "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json", 102, _sizes(4093, 1633, 2463),
             ("a photo of a {}, a type of flower.",)),
    ImageSet("oxford_pets", "Oxford-IIIT Pets: 7,349 photos of 37 breeds; image and class prompts",
             "CC BY-SA 4.0; photos are of their authors", "images/ of robots.ox.ac.uk/~vgg/data/pets",
             "oxford_pets", "images", "split_zhou_OxfordPets.json", 37, _sizes(2944, 736, 3669),
             ("a photo of a {}, a type of pet.",)),
    ImageSet("stanford_cars", "Stanford Cars: 16,185 photos of 196 models of car; image and class prompts",
             "for non-commercial research",
             "cars_train/ and cars_test/ of ai.stanford.edu/~jkrause/cars/car_dataset.html",
             "stanford_cars", "", "split_zhou_StanfordCars.json", 196, _sizes(6509, 1635, 8041)),
    ImageSet("sun397", "SUN397: 39,700 photos of 397 scenes; image and class prompts",
             "for research; photos are of their authors", "SUN397/ of vision.princeton.edu/projects/2010/SUN",
             "sun397", "SUN397", "split_zhou_SUN397.json", 397, _sizes(15_880, 3970, 19_850)),
    ImageSet("ucf101", "UCF-101: middle frames of 13,320 videos of 101 actions; image and class prompts",
             "none is stated; videos are of their authors",
             "UCF-101-midframes/, which DATASETS.md of github.com/KaiyangZhou/CoOp links to",
             "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", 101, _sizes(7639, 1898, 3783),
             ("a photo of a person doing {}.",)),
    ImageSet("imagenetv2", "ImageNet-V2, matched frequency: 10,000 photos to test ImageNet's classes on; image and "
             "class prompts", "MIT; photos are of their authors",
             f"imagenetv2-matched-frequency-format-val/ of github.com/modestyachts/ImageNetV2, {OWN_NAMES}",
             "imagenetv2", "imagenetv2-matched-frequency-format-val", "", 1000, {"test": 10_000}, IMAGENET),
    ImageSet("imagenet_sketch", "ImageNet-Sketch: 50,889 drawings to test ImageNet's classes on; image and class "
             "prompts", "MIT; drawings are of their authors",
             f"images/ (called sketch/ in the archive) of github.com/HaohanWang/ImageNet-Sketch, {OWN_NAMES}",
             "imagenet-sketch", "images", "", 1000, {"test": 50_889}, IMAGENET),
    ImageSet("imagenet_a", "ImageNet-A: 7,500 photos of 200 of ImageNet's classes that nets mistake; image and class "
             "prompts", "MIT; photos are of their authors",
             f"imagenet-a/ of github.com/hendrycks/natural-adv-examples, {OWN_NAMES}",
             "imagenet-adversarial", "imagenet-a", "", 200, {"test": 7500}, IMAGENET),
    ImageSet("imagenet_r", "ImageNet-R: 30,000 renditions of 200 of ImageNet's classes; image and class prompts",
             "MIT; pictures are of their authors", f"imagenet-r/ of github.com/hendrycks/imagenet-r, {OWN_NAMES}",
             "imagenet-rendition", "imagenet-r", "", 200, {"test": 30_000}, IMAGENET),
)}  # fmt: skip
SHIFTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
TARGETS = tuple(name for name in SETS if name not in SHIFTS)


def templates(prompts: str | Sequence[str], name: str = "") -> tuple[str, ...]:
    """The templates of a mode: "hand_crafted" (of the data set `name`), "vanilla", "classname"; or of a list.

    `prompts` may also be the path of a text file with a template a line, or the templates themselves.

    Raises:
        ValueError: there is no such mode or file, or a template has not exactly one {}.

    >>> templates("hand_crafted", "dtd"), templates("classname")
    (('{} texture.',), ('{}',))
    """
    if isinstance(prompts, str) and prompts in MODES:
        return {"hand_crafted": SETS[name].templates if name in SETS else PHOTO, "vanilla": PHOTO,
                "classname": ("{}",)}[prompts]  # fmt: skip
    if isinstance(prompts, str):
        if not prompts.strip() or not is_file(Path(prompts)):
            raise ValueError(f"prompts={prompts[:60]!r}; give {', '.join(MODES)}, or a text file, a template a line")
        try:
            lines = Path(prompts).read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"prompts={prompts!r} is no text in UTF-8; save it so") from None
        prompts = [line.strip() for line in lines if line.strip()]
    for template in prompts:
        if template.count("{}") != 1 or template.count("{") + template.count("}") != 2:
            raise ValueError(f"template {template[:60]!r} needs one {{}}, for the name of the class")
    if not prompts:
        raise ValueError("there are no templates; at least one is needed, such as 'a photo of a {}.'")
    return tuple(prompts)


def sentence(template: str, name: str) -> str:
    """A template about a class, whose underscores are blanks; nothing is lower-cased.

    >>> sentence("a photo of a {}.", "Egyptian_Mau")
    'a photo of a Egyptian Mau.'
    """
    return template.replace("{}", name.replace("_", " "))
