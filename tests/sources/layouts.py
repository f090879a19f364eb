"""Small data sets in the layouts of the real ones, with media that are really encoded and can be learnt from.

A class has a tone, a colour with a bar at a place, and words; items differ by noise. `WRITERS["cremad-raw"](root)`
writes one; the part before the hyphen is the name in the catalogue.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
import torchaudio
from PIL import Image

RATE = 16_000
CREMAD = {"ANG": "Anger", "DIS": "Disgust", "FEA": "Fear", "HAP": "Happy", "NEU": "Neutral", "SAD": "Sad"}
FOOD = ("apple_pie", "baklava", "pad_thai", "ramen")
MVSA = ("negative", "neutral", "positive")
IEMOCAP = {"ang": "Angry", "exc": "Happy", "neu": "Neutral", "sad": "Sad"}
ACTIONS = ("bowling", "chopping wood", "playing organ", "tap dancing")  # of Kinetics-Sounds
FILLER = ("the", "a", "of", "and", "we", "it", "was", "so", "very", "on", "this", "that", "they", "here", "today")


def pitch(c: int) -> float:
    """The tone of class c, in Hz."""
    return 300 * 2 ** (c / 2)


def tone(c: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) float32 at 16 kHz."""
    t = np.arange(int(RATE * seconds)) / RATE
    wave = 0.4 * np.sin(2 * np.pi * pitch(c) * t + rng.uniform(0, 6)) + 0.05 * rng.standard_normal(len(t))
    return wave.astype(np.float32)


def colour(c: int, classes: int) -> tuple[int, ...]:
    return tuple(round(255 * v) for v in colorsys.hsv_to_rgb(c / classes, 0.8, 0.7))


def drawing(c: int, classes: int, size: int, rng: np.random.Generator) -> Image.Image:
    """A square of the class's colour, with a dark bar at the class's height."""
    pixels = np.tile(np.array(colour(c, classes), float), (size, size, 1))
    bar = round(c * size / classes)
    pixels[bar : bar + max(size // classes, 1)] *= 0.4
    pixels += 12 * rng.standard_normal((size, size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def sentence(word: str, rng: np.random.Generator) -> str:
    """Eight words, of which two are the class's."""
    said = [*rng.choice(FILLER, 6), word, f"{word}ish"]
    return " ".join(said[i] for i in rng.permutation(8))


def write_wav(path: Path, wave: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE)


def write_jpg(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=95)


def write_npy(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def write_lines(path: Path, lines: Sequence[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding)


def write_video(path: Path, pictures: Sequence[Image.Image], fps: int = 10, wave: np.ndarray | None = None,
                times: Sequence[float] | None = None) -> None:  # fmt: skip
    """Encode flv as FLV1 and others as MPEG-4, sound as AAC, in avi as PCM. `times`: seconds of each picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        film = container.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=100 if times else fps)
        film.width, film.height, film.pix_fmt, film.bit_rate = *pictures[0].size, "yuv420p", 2_000_000
        voice = None
        if wave is not None:
            voice = container.add_stream("pcm_s16le" if path.suffix == ".avi" else "aac", rate=RATE, layout="mono")
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_image(picture)
            frame.pts = round(100 * times[i]) if times else i
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
        if voice is not None and wave is not None:
            block = voice.codec_context.frame_size or 1024
            wave = np.pad(wave, (0, -len(wave) % block))
            for start in range(0, len(wave), block):
                sound = av.AudioFrame.from_ndarray(wave[None, start : start + block], format="fltp", layout="mono")
                sound.sample_rate, sound.pts = RATE, start
                container.mux(voice.encode(sound))
            container.mux(voice.encode(None))


def film(c: int, classes: int, size: int, seconds: float, rng: np.random.Generator, fps: int = 10) -> list[Image.Image]:
    picture = drawing(c, classes, size, rng)
    return [picture] * max(round(seconds * fps), 1)


def write_bank(path: Path, wave: np.ndarray, frames: int = 1024) -> None:
    """Log-mel filter bank (frames, 128), padded with zeros, as MLA stores it."""
    x = torch.from_numpy(wave)[None]
    bank = torchaudio.compliance.kaldi.fbank(x - x.mean(), htk_compat=True, sample_frequency=RATE, num_mel_bins=128,
                                             window_type="hanning", dither=0.0, frame_shift=10)  # fmt: skip
    write_npy(path, torch.nn.functional.pad(bank, (0, 0, 0, frames - len(bank)))[:frames].numpy())


def write_tokens(folder: Path, stem: str, text: str, length: int = 256) -> None:
    """Ids of words and marks of padding, both (1, length). A word's id is a number below BERT's vocabulary."""
    ids = [1000 + int.from_bytes(word.encode(), "big") % 29_000 for word in text.split()][:length]
    write_npy(folder / f"{stem}_token.npy", np.array([ids + [0] * (length - len(ids))]))
    write_npy(folder / f"{stem}_pm.npy", np.array([[0.0] * len(ids) + [1.0] * (length - len(ids))], np.float32))


def cremad(root: Path, released: bool = False, frames: bool = False, actors: int = 6, size: int = 32) -> None:
    """Every actor says a sentence in every emotion; of each emotion one actor's is in the test list."""
    rng = np.random.default_rng(0)
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for a in range(actors):
        for c, (short, label) in enumerate(CREMAD.items()):
            id, part = f"{1001 + 7 * a}_{'IEO' if c % 2 else 'TIE'}_{short}_XX", "test" if a == c % actors else "train"
            parts[part].append(f"{id}.flv {label}" if released else f"{id},{short}")
            wave, pictures = tone(c, 0.8, rng), film(c, 6, size, 2.4, rng)
            if released:
                write_bank(root / "audio" / f"{part}_fbank" / f"{id}.npy", wave)
            else:
                write_wav(root / "AudioWAV" / f"{id}.wav", wave)
            below = root / "visual" / f"{part}_imgs" if released else root
            if released or frames:
                for k in range(3):
                    write_jpg(below / "Image-01-FPS" / id / f"{10 * k:05d}.jpg", pictures[10 * k])
            else:
                write_video(root / "VideoFlash" / f"{id}.flv", pictures)
    for part, lines in parts.items():
        write_lines(root / (f"my_{part}_cre.txt" if released else f"{part}.csv"), lines)


def kinetics_sounds(root: Path, released: bool = False, each: int = 8, size: int = 32) -> None:
    """Clips of four classes, two of each video, one in four in the test list."""
    rng = np.random.default_rng(1)
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for c, action in enumerate(ACTIONS):
        for i in range(each):
            part, video = "test" if i // 2 % 4 == 3 else "train", f"-{c}x_{i // 2:07d}"
            id = f"{video}_{i}" if part == "test" and not released else f"{video}_{i:06d}_{i + 10:06d}"
            parts[part].append(f"{id}.mp4 {action}" if released else f"{id},10,{7 * c}")
            wave, pictures = tone(c, 2.4, rng), film(c, len(ACTIONS), size, 2.4, rng)
            if released:
                write_bank(root / "audio" / f"{part}_fbank" / f"{id}.npy", wave)
                for k in range(3):
                    below = root / "visual" / f"{part}_imgs" / "Image-01-FPS"
                    write_jpg(below / id / f"{10 * k:05d}.jpg", pictures[10 * k])
            else:
                write_video(root / "video" / action / f"{video}_{i:06d}_{i + 10:06d}.mp4", pictures, wave=wave)
    for part, lines in parts.items():
        write_lines(root / f"my_{part}{'_ks' * released}.txt", lines)


def food101(root: Path, form: str = "kaggle", each: int = 10, size: int = 48) -> None:
    """Pages of four dishes, one in five in the test list. form: kaggle, mmbt or released."""
    rng = np.random.default_rng(2)
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for c, dish in enumerate(FOOD):
        for i in range(each):
            part = "test" if i % 5 == 4 else "dev" if form == "mmbt" and i % 5 == 3 else "train"
            stem, where = f"{dish}_{i}", "test" if part == "test" else "train"
            title, picture = sentence(dish.replace("_", ""), rng), drawing(c, len(FOOD), size, rng)
            image = f"images/{where}/{dish}/{stem}.jpg"
            row = {"id": f"{dish}_{stem}.jpg", "label": dish, "text": title, "img": image}
            parts[part].append({"mmbt": json.dumps(row), "released": f"{stem}.jpg {dish}",
                                "kaggle": f'{stem}.jpg,"{title}, | recipes",{dish}'}[form])  # fmt: skip
            write_jpg(root / (f"visual/{part}_imgs/{stem}.jpg" if form == "released" else image), picture)
            if form == "released":
                write_tokens(root / "text_token" / f"{part}_token", stem, title)
    names = {"mmbt": "{}.jsonl", "released": "my_{}_food.txt", "kaggle": "texts/{}_titles.csv"}
    for part, lines in parts.items():
        if lines:
            write_lines(root / names[form].format(part), lines)


def mvsa(root: Path, released: bool = False, each: int = 12, size: int = 48) -> None:
    """Tweets of three sentiments; two in twelve are in dev, two in test. Raw, labels of further tweets disagree."""
    rng = np.random.default_rng(3)
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    results, n = ["ID\ttext,image"], 0
    for c, label in enumerate(MVSA):
        other = MVSA[(c + 1) % 3]
        for i in range(each if released else each + 3):  # the last three are seen differently
            n += 1
            part = "test" if i % 6 == 5 else "dev" if i % 6 == 4 and not released else "train"
            text, picture = sentence(label, rng) + " \u00a1\u00ad", drawing(c, 3, size, rng)
            results.append(f"{n}\t{label},{label if i < each else other}")
            if released:
                parts[part].append(f"{n}.jpg {label}")
                write_jpg(root / "visual" / f"{part}_imgs" / f"{n}.jpg", picture)
                write_tokens(root / "text_token" / f"{part}_token", str(n), text)
                continue
            write_jpg(root / "data" / f"{n}.jpg", picture)
            write_lines(root / "data" / f"{n}.txt", [text], "latin-1")
            if i < each:
                parts[part].append(json.dumps({"id": str(n), "label": label, "text": text, "img": f"data/{n}.jpg"}))
    for part, lines in parts.items():
        if lines:
            write_lines(root / (f"my_{part}_mvsa.txt" if released else f"{part}.jsonl"), lines)
    if not released:
        write_lines(root / "labelResultAll.txt", results)


def iemocap(root: Path, released: bool = False, each: int = 2, size: int = 32) -> None:
    """Every session has a dialog with `each` utterances of each emotion, 1.5 s long, and one of another emotion."""
    rng = np.random.default_rng(4)
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for session in range(1, 6):
        dialog, turns, said, pictures = f"Ses0{session}F_impro01", [], [], []
        below = root / f"Session{session}"
        for k, short in enumerate([*IEMOCAP] * each + ["fru"]):
            id, start = f"{dialog}_{'FM'[k % 2]}{k:03d}", 1.5 * k
            c = k % 4
            wave, text, seen = tone(c, 1.2, rng), sentence(short, rng), film(c, 4, size, 1.5, rng)
            pictures += seen
            turns.append(f"[{start:.4f} - {start + 1.5:.4f}]\t{id}\t{short}\t[2.5000, 2.5000, 2.5000]")
            said.append(f"{id} [{start:08.4f}-{start + 1.5:08.4f}]: {text}")
            if not released:
                write_wav(below / "sentences" / "wav" / dialog / f"{id}.wav", wave)
            elif short in IEMOCAP:
                part = "test" if k // 4 == 0 and session == c + 1 else "train"
                lines[part].append(f"{id}.mp4 [split|sign] {text} [split|sign] {IEMOCAP[short]}")
                write_bank(root / "audio" / f"{part}_fbank" / f"{id}.npy", wave)
                write_tokens(root / "text_token" / f"{part}_token", id, text)
                for n in range(2):
                    write_jpg(root / "visual" / f"{part}_imgs" / id / f"{n}.jpg", seen[10 * n])
        if not released:
            header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
            judged = "C-E1:\tNeutral;\t()"
            shown = [line for turn in turns for line in (turn, judged, "")]
            write_lines(below / "dialog" / "EmoEvaluation" / f"{dialog}.txt", [header, "", *shown])
            write_lines(below / "dialog" / "transcriptions" / f"{dialog}.txt", [*said, "M: (laughs)"])
            write_video(below / "dialog" / "avi" / "DivX" / f"{dialog}.avi", pictures)
    if released:
        for part, listed in lines.items():
            write_lines(root / f"my_{part}_iemo.txt", listed)


WRITERS: dict[str, Callable[[Path], None]] = {
    "cremad-raw": cremad,
    "cremad-ogm": lambda root: cremad(root, frames=True),
    "cremad-released": lambda root: cremad(root, released=True),
    "kinetics_sounds-raw": kinetics_sounds,
    "kinetics_sounds-released": lambda root: kinetics_sounds(root, released=True),
    "food101-raw": food101,
    "food101-mmbt": lambda root: food101(root, "mmbt"),
    "food101-released": lambda root: food101(root, "released"),
    "mvsa-raw": mvsa,
    "mvsa-released": lambda root: mvsa(root, released=True),
    "iemocap-raw": iemocap,
    "iemocap-released": lambda root: iemocap(root, released=True),
}


DISHES = tuple(f"{cuisine}_{course}" for cuisine in ("American", "Asian", "Cuban", "French", "Greek") for course in
               ("Desserts", "Main Dishes", "Soups", "Side Dishes"))  # fmt: skip


def yummly(root: Path, released: bool = False, each: int = 8, size: int = 32) -> None:
    """Recipes of twenty classes, the first of which has twice as many, and of one that is too small to be kept."""
    rng = np.random.default_rng(5)
    labels: dict[str, str] = {}
    for c, dish in enumerate([*DISHES, "Thai_Drinks"]):
        for _ in range(2 * each if c == 0 else 2 if dish.startswith("Thai") else each):
            id = f"{len(labels) + 1:05d}"
            labels[id] = dish
            picture, text = drawing(c % len(DISHES), len(DISHES), size, rng), sentence(dish.replace(" ", ""), rng)
            if released:
                write_npy(root / "new_imgs" / f"{id}.npy", np.asarray(picture, np.float32).transpose(2, 0, 1) / 255)
                write_npy(root / "text_embs" / f"{id}.npy", np.eye(24, 16, -c, np.float32))
                continue
            cuisine, course = dish.split("_")
            row = {"id": dish, "ingredientLines": [text, "1 Cup Salt"],
                   "attributes": {"course": [course], "cuisine": [cuisine]}}  # fmt: skip
            write_lines(root / "metadata27638" / f"meta{id}.json", [json.dumps(row)])
            write_jpg(root / "images27638" / f"img{id}.jpg", picture)
    if released:
        write_lines(root / "fid_to_label.json", [json.dumps(labels)])
    else:
        write_lines(root / "metadata27638" / "meta99999.json", ['{"ingredientLines": ["salt"], "attributes": {}}'])


def cifar_esc(root: Path, each: int = 12, clips: int = 4) -> None:
    """Pictures of every class of CIFAR that is in a concept and of one that is not; sounds likewise."""
    from xmodal_lib.sources.cifar_esc import members

    rng = np.random.default_rng(6)
    concepts = list(members())
    ten = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    place = {name: c for c, concept in enumerate(concepts) for name in members()[concept][0]}
    hundred = (*sorted(set(place) - set(ten)), "apple")
    for folder, names, files, extra, listed in (
        ("cifar-10-batches-bin", ten, [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], 0, "batches.meta.txt"),
        ("cifar-100-binary", hundred, ["train", "test"], 1, "fine_label_names.txt"),
    ):
        write_lines(root / folder / listed, [*names, ""])
        records = [bytes([7] * extra + [c]) + np.asarray(drawing(place.get(name, 16), 17, 32, rng)).transpose(
            2, 0, 1).tobytes() for c, name in enumerate(names) for _ in range(each)]  # fmt: skip
        mixed = [records[i] for i in rng.permutation(len(records))]
        for k, file in enumerate(files):
            (root / folder / f"{file}.bin").write_bytes(b"".join(mixed[k :: len(files)]))
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    heard = [(name, c) for c, concept in enumerate(concepts) for name in members()[concept][1]]
    for target, (name, c) in enumerate([*heard, ("rain", 16)]):
        for n in range(clips):
            file = f"{n + 1}-{10000 + 10 * target + n}-A-{target}.wav"
            lines.append(f"{file},{n + 1},{target},{name},False,{10000 + n},A")
            write_wav(root / "ESC-50-master" / "audio" / file, tone(c % 9, 0.5, rng))
    write_lines(root / "ESC-50-master" / "meta" / "esc50.csv", lines)


def wilderness(root: Path, languages: int = 20, chapters: int = 6, each: int = 4) -> None:
    """The same chapters in every language; a language has a tone and a word."""
    rng = np.random.default_rng(7)
    for c in range(languages):
        code = f"L{chr(65 + c)}NWTC"
        below = root / code / "aligned" if c % 2 else root / code
        lines = []
        for chapter in range(1, chapters + 1):
            for n in range(each):
                id = f"B01___{chapter:02d}_Matthew_____{code}N1DA_{n + 1:05d}"
                lines.append(f'( {id} "{sentence(f"word{c}", rng)}" )')
                write_wav(below / "wav" / f"{id}.wav", tone(c % 9, 0.4, rng))
        write_lines(below / "etc" / "txt.done.data", lines)


# whose splits are by class: val and test have other classes than train
BY_CLASS: dict[str, Callable[[Path], None]] = {
    "yummly-raw": yummly,
    "yummly-released": lambda root: yummly(root, released=True),
    "cifar_esc-raw": cifar_esc,
    "wilderness-raw": wilderness,
}


SKETCHY = ("airplane", "ant", "bat", "cat", "hot-air_balloon", "piano", "pig", "songbird", "window", "zebra")
TUBERLIN = ("airplane", "alarm clock", "bear (animal)", "cat", "hot air balloon", "mouse (animal)", "sun", "zebra")
STYLES = "ABCDEF"
ROOMS = ("bathroom", "bedroom", "classroom", "kitchen", "living_room", "office")


def outline(c: int, classes: int, size: int, rng: np.random.Generator) -> Image.Image:
    """The bar of `drawing`, dark on white."""
    pixels = np.full((size, size), 255, np.uint8)
    bar = round(c * size / classes)
    pixels[bar : bar + max(size // classes, 1)] = rng.integers(0, 60)
    return Image.fromarray(pixels)


def millimetres(c: int, classes: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size) uint16: a wall at c + 1 metres of 0.9 each, and a corner where nothing was measured."""
    depth = (900 * (c + 1) + rng.integers(0, 20, (size, size))).astype(np.uint16)
    depth[: size // 4, : size // 4] = 0
    return depth


def write_png(path: Path, pixels: np.ndarray | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)


def class_folders(root: Path, names: Sequence[str], photos: str, sketches: str, each: int = 6, size: int = 32,
                  of_photos: bool = False) -> None:  # fmt: skip
    """A folder a class; two sketches of each photo, named by it or by numbers."""
    rng = np.random.default_rng(8)
    for c, name in enumerate(names):
        for n in range(each):
            stem = f"n{10 * c:08d}_{n}"
            write_jpg(root / photos / name / f"{stem}.jpg", drawing(c, len(names), size, rng))
            for k in (1, 2):
                drawn = f"{stem}-{k}" if of_photos else str(80 * c + 2 * n + k)
                write_png(root / sketches / name / f"{drawn}.png", outline(c, len(names), size, rng))


def sketchy(root: Path) -> None:
    class_folders(root, SKETCHY, "EXTEND_image_sketchy", "256x256/sketch/tx_000000000000", of_photos=True)


def tuberlin(root: Path, ready: bool = False) -> None:
    """As distributed, or as copies for retrieval have it, whose photos' classes are written with underscores."""
    if not ready:
        class_folders(root, TUBERLIN, "ImageResized", "png")
        write_lines(root / "png" / "filelist.txt", [f"{name}/1.png" for name in TUBERLIN])
        return
    class_folders(root, TUBERLIN, "ImageResized_ready", "png_ready")
    for name in TUBERLIN:
        (root / "ImageResized_ready" / name).rename(root / "ImageResized_ready" / name.replace(" ", "_"))


def market_sketch(root: Path, persons: int = 12, size: int = 32) -> None:
    """Every second person is of query; a person is drawn in three of the six styles; one is not drawn at all."""
    rng = np.random.default_rng(9)
    for c in range(persons + 1):
        part, person = ("train", "query")[c % 2], f"{3 * c + 2:04d}"
        for camera in (1, 3, 6):
            for n in range(2):
                path = root / "photo" / part / f"{person}_c{camera}s1_{100 * n + 51:06d}_0{n}.jpg"
                write_jpg(path, drawing(c, persons + 1, size, rng))
        for style in STYLES[c % 2 :: 2] if c < persons else ():
            write_jpg(root / "sketch" / style / part / f"{person}_{style}.jpg", outline(c, persons + 1, size, rng))


def sksf_a(root: Path, persons: int = 10, size: int = 32) -> None:
    rng = np.random.default_rng(10)
    for c in range(persons):
        write_png(root / "SKSF-A" / "Photo" / f"{c + 1}.png", drawing(c, persons, size, rng))
        write_png(root / "SKSF-A" / "mask" / f"{c + 1}.png", outline(c, persons, size, rng))
        for n in range(1, 8):
            write_png(root / "SKSF-A" / f"style{n}" / f"{c + 1}.png", outline(c, persons, size, rng))
    write_lines(root / "SKSF-A" / "attributes.csv", ["name,smile", *(f"{c + 1},1" for c in range(persons))])


def sysu_mm01(root: Path, persons: int = 12, size: int = 32) -> None:
    """Persons in four of six cameras; every third is of test; the last one is in no list."""
    rng = np.random.default_rng(11)
    parts: dict[str, list[str]] = {"test": [], "train": [], "val": []}
    for c in range(persons + 1):
        if c < persons:
            parts[("test", "train", "train", "test", "val", "train")[c % 6]].append(str(2 * c + 1))
        for camera in (1, 2, 3, 6) if c % 2 else (4, 5, 3, 6):
            for n in range(2):
                picture = drawing(c, persons + 1, size, rng)
                path = root / f"cam{camera}" / f"{2 * c + 1:04d}" / f"{n + 1:04d}.jpg"
                write_jpg(path, picture.convert("L") if camera in (3, 6) else picture)
    for part, numbers in parts.items():
        write_lines(root / "exp" / f"{part}_id.txt", [",".join(numbers)])


def sun_shot(shot: Path, c: int, scene: str, size: int, rng: np.random.Generator) -> None:
    """A shot of SUN RGB-D: the bits of its depth are rotated; the sensor's own depth has more holes."""
    depth = millimetres(c, len(ROOMS), size, rng)
    write_jpg(shot / "image" / f"{shot.name}.jpg", drawing(c, len(ROOMS), size, rng))
    for folder, stored in (("depth_bfx", depth), ("depth", depth * (rng.random(depth.shape) < 0.5))):
        write_png(shot / folder / f"{shot.name}.png", ((stored << 3) | (stored >> 13)).astype(np.uint16))
    write_lines(shot / "scene.txt", [scene])
    write_lines(shot / "intrinsics.txt", ["529.5 0 365 0 529.5 265 0 0 1"])


def sunrgbd(root: Path, each: int = 6, size: int = 32) -> None:
    """Shots of all four sensors, some deeper in folders, and two of a room that is not usual; half are of train."""
    import scipy.io

    rng = np.random.default_rng(12)
    shots = []
    for c, scene in enumerate([*ROOMS, "idk"]):
        for n in range(each if scene in ROOMS else 2):
            where = (f"kv1/NYUdata/NYU{10 * c + n:04d}", f"kv2/kinect2data/{c:06d}_{n}-resize",
                     f"realsense/lg/{c}_{n}", f"xtion/sun3ddata/home_{c}/seq/{n:07d}")[n % 4]  # fmt: skip
            shots.append(where)
            sun_shot(root / "SUNRGBD" / where, c % len(ROOMS), scene, size, rng)
    split = {f"all{part}": np.array([f"/n/fs/sun3d/data/SUNRGBD/{s}" for s in shots[k::2]], object)
             for k, part in enumerate(("train", "test"))}  # fmt: skip
    toolbox = root / "SUNRGBDtoolbox" / "traintestSUNRGBD"
    toolbox.mkdir(parents=True)
    scipy.io.savemat(toolbox / "allsplit.mat", split)


def nyud(root: Path, unpacked: bool = False, each: int = 6, size: int = 32) -> None:
    """Shots of six kinds of room and of a seventh that is left out; every third is of test."""
    import scipy.io

    rng = np.random.default_rng(13)
    scenes = [scene for n in range(each) for scene in (*ROOMS, *(["cafe"] if n < 2 else []))]
    root.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(1, len(scenes) + 1)
    scipy.io.savemat(root / "splits.mat", {"trainNdxs": numbers[numbers % 3 > 0][:, None],
                                           "testNdxs": numbers[numbers % 3 == 0][:, None]})  # fmt: skip
    place = [ROOMS.index(scene) if scene in ROOMS else 0 for scene in scenes]
    if unpacked:
        for n, (scene, c) in enumerate(zip(scenes, place, strict=True)):
            sun_shot(root / "kv1" / "NYUdata" / f"NYU{n + 1:04d}", c, scene, size, rng)
        return
    import h5py

    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        images = np.stack([np.asarray(drawing(c, len(ROOMS), size, rng)) for c in place])
        depths = np.stack([millimetres(c, len(ROOMS), size, rng) for c in place]) / 1000
        file["images"] = images[:, : size - 8].transpose(0, 3, 2, 1)  # (n, 3, w, h): MATLAB's axes, last one first
        file["depths"] = depths[:, : size - 8].transpose(0, 2, 1).astype(np.float32)
        for name, values in (("sceneTypes", scenes), ("scenes", [f"{s}_{n % 4:04d}" for n, s in enumerate(scenes)])):
            cells = [file.create_dataset(f"#refs#/{name}{n}", data=np.array([[ord(c)] for c in v], np.uint16)).ref
                     for n, v in enumerate(values)]  # fmt: skip
            file.create_dataset(name, data=np.array([cells], object), dtype=h5py.ref_dtype)
    whole = (root / "nyu_depth_v2_labeled.mat").read_bytes()
    (root / "nyu_depth_v2_labeled.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + whole[512:])


# of two visual modalities; a class is of base or of novel
VISUAL: dict[str, Callable[[Path], None]] = {
    "sketchy-raw": sketchy,
    "tuberlin-raw": tuberlin,
    "tuberlin-ready": lambda root: tuberlin(root, ready=True),
    "market_sketch-raw": market_sketch,
    "sksf_a-raw": sksf_a,
    "sysu_mm01-raw": sysu_mm01,
    "sunrgbd-raw": sunrgbd,
    "nyud-mat": nyud,
    "nyud-sunrgbd": lambda root: nyud(root, unpacked=True),
}
