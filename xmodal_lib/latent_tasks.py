"""Where rows lie before and after training: each family of methods on its own task, trained briefly.

    found = FAMILIES["mla"](seed=1)                # Latents: rows, and the spaces "untrained", "joint", "MLA"
    found.parts("MLA")                             # {"speech": (180, 128), "image": (180, 128)}

The trainings are short, so that a picture takes seconds; what the methods are worth is measured in the notebooks of
their families. What is shown was never learnt from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from xmodal_lib import adaptation_tasks, alignment_rows, alignment_tasks, multimodal_tasks, visual_rows, visual_tasks
from xmodal_lib.methods import MLA, AdapterProbe, Joint, LinearProbe, PartialFinetuning, ZeroShot
from xmodal_lib.methods.gtl import GTL
from xmodal_lib.sources import emoji
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Tables
from xmodal_lib.tasks import CategoryTask

SHOTS = 8  # labelled drawings a class (adaptation) or a class and modality (gtl)
NEW_CLASSES = 25  # of those that CroMA's base did not have
LENGTHS = {"adaptation": 2000, "mla": 30, "croma": 160, "gtl": 30}  # trainings: iterations, epochs, meta-steps, epochs


@dataclass(frozen=True, eq=False)
class Latents:
    """The same rows in several spaces. Spaces and answers have the rows of all modalities, in order of `rows`."""

    source: Source
    rows: Tables  # x row numbers of the source, or features of rows with its pair ids
    spaces: Mapping[str, Tensor]  # name -> (n, d)
    steps: tuple[tuple[str, str], ...]  # spaces to compare: before, after
    gap: tuple[str, ...]  # spaces whose modalities are seen from the side of their gap
    answers: Mapping[str, Tensor]  # method -> the class it gives each row (n,)
    trained: pd.DataFrame  # a line a method: method, length, CPU seconds
    item: str  # column of the source's frames whose equal values are one item; "" for the pair ids
    look: str  # what the paper shows, and what to look for
    names: Mapping[str, str] = field(default_factory=dict)  # of classes, where they are not the emoji's

    @property
    def labels(self) -> list[str]:
        """Class of each row."""
        return [self._readable(y) for t in self.rows.rows.values() for y in t.y.tolist()]

    @property
    def modality(self) -> list[str]:
        """Modality of each row."""
        return [m for m, t in self.rows.rows.items() for _ in range(len(t))]

    def parts(self, space: str) -> dict[str, Tensor]:
        """A space by modality: {modality: (n_m, d)}."""
        sizes = [len(t) for t in self.rows.rows.values()]
        return dict(zip(self.rows.modalities, self.spaces[space].split(sizes), strict=True))

    def examples(self, modality: str, n: int = 3) -> dict[str, Any]:
        """{number and class: what is opened} of n rows of a modality, evenly spaced: pictures, waveforms or strings."""
        table = self.rows[modality]
        places = torch.linspace(0, len(table) - 1, n).long()
        things = self.source.opened(modality, table.pair[places].tolist(), self._numbered())
        names = (self._readable(y) for y in table.y[places].tolist())
        return {f"{k}. {name}": x for k, (name, x) in enumerate(zip(names, things, strict=True), 1)}

    def _readable(self, y: int) -> str:
        name = self.rows.classes[y]
        return self.names.get(name, emoji.readable(name))

    def _numbered(self) -> Tables | None:
        """The rows, where they are row numbers; None where the source knows their pair ids."""
        return None if next(iter(self.rows.rows.values())).x.is_floating_point() else self.rows

    def correct(self) -> dict[str, list[str]]:
        """For each method with answers, whether each row is answered rightly: "right" or "wrong"."""
        y = torch.cat([t.y for t in self.rows.rows.values()])
        return {
            f"by {name}": ["right" if r else "wrong" for r in (a == y).tolist()] for name, a in self.answers.items()
        }


def adaptation(seed: int, *, length: int = 0, features: str = "", source: str = "drawings") -> Latents:
    """Drawings of novel concepts and the concepts' names in the bridge's space, and what cross-modal methods do to it.

    The probe moves no row, so it is shown by its scores, one number a class, less their mean, which softmax does not
    see; before it, those of zero-shot. Adapter and partial finetuning (of the image tower's last convolution) move
    rows; names are moved by the adapter alone. `length`: iterations (partial finetuning: a tenth, as each is dear);
    `features`: a file of notebook 02 for this seed; `source`: a CSV or folder of your own in place of the drawings.

    Raises:
        ValueError: the source is neither.
    """
    length = length or LENGTHS["adaptation"]
    own = source != "drawings"
    if own and (source.endswith(".json") or not Path(source).exists()):
        raise ValueError(f"source={source!r}; there are drawings, or the path of your own CSV or folder of pictures")
    given = adaptation_tasks.load(source, seed=seed, shots=[1], deep=True, features=features)
    task, tables = given.task, given.tables
    _, tail, deep_task = given.deep()
    asked = task.pools["query"]
    words = task.prompts if own else _names(given.source, task, tables)
    rows = asked | words
    learnt = task.pools["support"].labels().bincount(minlength=len(task.classes))
    shots = min(SHOTS, int(learnt.min()))
    learn, deep_learn = (t.episode(shots).support for t in (task, deep_task))
    clock, some = Clock(), -(-length // 10)
    methods = {
        "zero-shot": clock("zero-shot", 0, ZeroShot(seed=seed).fit, learn),
        "probe": clock("probe", length, LinearProbe(iterations=length, seed=seed).fit, learn),
        "adapter": clock("adapter", length, AdapterProbe(iterations=length, seed=seed).fit, learn),
        "partial finetuning": clock("partial finetuning", some, PartialFinetuning(
            {"image": tail}, iterations=some, seed=seed).fit, deep_learn),
    }  # fmt: skip
    shown = dict.fromkeys(methods, rows) | {"partial finetuning": deep_task.pools["query"] | words}
    z = {name: _joined(method.embed(shown[name])) for name, method in methods.items()}
    scores = {name: _joined(method.logits(shown[name])) for name, method in methods.items()}
    spaces = {"bridge": z["zero-shot"], "adapter": z["adapter"], "partial finetuning": z["partial finetuning"]}
    spaces |= {f"scores, {name}": scores[name] - scores[name].mean(1, keepdim=True) for name in ("zero-shot", "probe")}
    steps = (("bridge", "adapter"), ("bridge", "partial finetuning"), ("scores, zero-shot", "scores, probe"))
    look = (
        "Lin et al. use class names as labelled examples of drawings, although the two modalities lie apart. Look for "
        "that gap between drawings and names, and whether training closes it: nothing in the loss asks for it."
    )
    answers = {name: s.argmax(1) for name, s in scores.items()}
    item, names = ("", given.names) if own else ("concept", {})
    return Latents(given.source, rows, spaces, steps, tuple(spaces)[:3], answers, clock.table(), item, look, names)


def _names(source: Source, task: CategoryTask, tables: Tables) -> Tables:
    """The names of the concepts that are asked: text rows of their classes."""
    asked = [task.concept[i] for i in task.pools["query"].items().tolist()]
    names = source.where("text", kind="name", concept=asked)
    return tables.only("text").take(names).of_classes(task.classes)


def mla(seed: int, *, length: int = 0, features: str = "") -> Latents:
    """Spoken names and drawings of 60 concepts (test items): small nets untrained, trained jointly, and in turns (MLA).

    `length`: epochs of MLA; joint training gets as many optimiser steps. `features` is not used.
    """
    length = length or LENGTHS["mla"]
    task = multimodal_tasks.spoken_drawings(seed)
    support, val, query = task.episode.support, task.episode.val, task.episode.query
    common: dict[str, Any] = {"encoders": task.encoders, "lr": 0.02, "seed": seed}
    turns, clock = MLA(epochs=length, **common), Clock()
    methods = {
        "untrained": clock("untrained", 0, turns.begin, support),
        "joint": clock("joint", 2 * length, Joint(epochs=2 * length, **common).fit, support, val),
        "MLA": clock("MLA", length, turns.fit, support, val),
    }
    first = {m: _first(t.x) for m, t in task.rows["test"].rows.items()}  # several voices may share one drawing
    rows, query = (replace(part, rows={m: t[first[m]] for m, t in part.rows.items()})
                   for part in (task.rows["test"], query))  # fmt: skip
    spaces = {name: _joined(method.embed(query)) for name, method in methods.items()}
    answers = {name: _joined(methods[name].logits(query)).argmax(1) for name in ("joint", "MLA")}
    look = (
        "Zhang et al. show that the modalities lie further apart after MLA than after joint training. Look at the "
        "distance of the two centres, and whether rows of a class lie together in each modality."
    )
    steps = (("untrained", "joint"), ("untrained", "MLA"), ("joint", "MLA"))
    return Latents(task.source, rows, spaces, steps, tuple(spaces), answers, clock.table(), "concept", look)


def croma(seed: int, *, length: int = 0, features: str = "") -> Latents:
    """Typed words and their spoken forms of 25 new words: before alignment (the source's labels alone), and by CroMA.

    `length`: meta-iterations, all kept (none is chosen on validation tasks). `features` is not used.
    """
    length = length or LENGTHS["croma"]
    task = alignment_tasks.words(seed, tasks=1, val_tasks=1)
    given = alignment_rows.fields("ours", length, source="words")
    arms, clock = alignment_rows.table(task, given, seed=seed, only=alignment_rows.LOOK), Clock()
    pool = task.pools["test"]
    names = pool.classes[:NEW_CLASSES]
    methods = {name: clock(name, length, row.method.pretrain, row.base) for name, row in arms.items()}
    embedded = {name: _joined(method.embed(pool.of_classes(names))) for name, method in methods.items()}
    spaces = {"before alignment (source only)": embedded["source only"], "after alignment (CroMA)": embedded["CroMA"]}
    look = (
        "Liang et al. align two modalities so that one serves the other: a spoken word should lie beside its typed "
        "form, though neither was in training. Look whether the two markers of a colour have come together; in the "
        "table, whether the nearest rows of the *other* modality are of the same class."
    )
    (before, after), rows = spaces, task.rows["test"].of_classes(names)
    return Latents(task.source, rows, spaces, ((before, after),), (before, after), {}, clock.table(), "", look)


def gtl(seed: int, *, length: int = 0, features: str = "") -> Latents:
    """Drawings in colour and in one ink of nine novel categories: features, and GTL's concept and disturbance.

    Before = after the base stage (colour alone), after = after the novel stage (8 rows a class and modality); and the
    disturbance of a GTL without its estimator. `length`: epochs of each stage. `features` is not used.
    """
    length = length or LENGTHS["gtl"]
    task = visual_tasks.drawings(seed)
    support, query = task.episodes("novel", shot=SHOTS, seed=seed)[0].support, task.pools["novel"][1]
    own = visual_rows.fields("ours", length) | {"seed": seed}
    clock = Clock()
    base: dict[str, GTL] = {
        name: clock(f"{name}, base stage", length, gtl.pretrain, task.base)
        for name, gtl in (("GTL", GTL(**own)), ("GTL, no estimator", GTL(**own | {"domains": 0})))
    }
    fitted = {name: clock(f"{name}, novel stage", length, m.fit, support) for name, m in base.items()}
    before, after, plain = (m.posterior(query) for m in (base["GTL"], fitted["GTL"], fitted["GTL, no estimator"]))
    spaces = {
        "features": torch.cat([t.x for t in query.rows.values()]),
        "concept, base stage": torch.cat([q.concept for q in before.values()]),
        "concept": torch.cat([q.concept for q in after.values()]),
        "disturbance, base stage": torch.cat([q.disturbance for q in before.values()]),
        "disturbance": torch.cat([q.disturbance for q in after.values()]),
        "disturbance, no estimator": torch.cat([q.disturbance for q in plain.values()]),
    }
    steps = (("concept, base stage", "concept"), ("disturbance, base stage", "disturbance"),
             ("disturbance, no estimator", "disturbance"))  # fmt: skip
    look = (
        "Of Yang et al.'s figures only a description was at hand: t-SNE maps in which the disturbance keeps "
        "modalities apart, and mixes them when its estimator is left out. If GTL does here what it is built for, the "
        "concept sorts rows by class and not by modality, and the disturbance the reverse."
    )
    answers = {name: _joined(m.logits(query)).argmax(1) for name, m in fitted.items()}
    gap = ("features", "concept", "disturbance")
    return Latents(task.source, task.rows["novel query"], spaces, steps, gap, answers, clock.table(), "concept", look)


FAMILIES: dict[str, Callable[..., Latents]] = {"adaptation": adaptation, "mla": mla, "croma": croma, "gtl": gtl}


def latents(family: str, seed: int, *, length: int = 0, features: str = "", source: str = "drawings") -> Latents:
    """A family by name; length 0 is its own of LENGTHS. `source`: see `adaptation`, which alone has another.

    Raises:
        ValueError: there is no such family or source, or the length is negative.
    """
    if family not in FAMILIES:
        raise ValueError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    if length < 0:
        raise ValueError(f"length={length}; a number of iterations or epochs, or 0 for that of the family, is needed")
    if source == "drawings":
        return FAMILIES[family](seed, length=length, features=features)
    if family != "adaptation":
        raise ValueError(f"family={family!r} has data of its own; source={source!r} is for family='adaptation'")
    return adaptation(seed, length=length, features=features, source=source)


class Clock:
    """Runs what is trained, and remembers what it cost."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __call__(self, name: str, length: int, train: Callable[..., Any], *given: Any) -> Any:
        start = time.process_time()
        found = train(*given)
        self.lines.append({"method": name, "length": length, "CPU seconds": time.process_time() - start})
        return found

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.lines)


def _joined(rows: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([z.detach().cpu() for z in rows.values()])


def _first(x: Tensor) -> Tensor:
    """Places of the first row of each row number, in order: (n,) -> (m,)."""
    return torch.tensor(sorted({number: i for i, number in reversed([*enumerate(x.tolist())])}.values()))
