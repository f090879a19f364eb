"""How methods are compared: fit on support, predict a query without labels, intervals over draws.

    frame = evaluate({"linear probe": LinearProbe()}, episodes)     # one line a (method, draw, metric)
    summary(frame)                                                  # mean and 95 % interval over draws
    paired(frame, "linear probe", "zero-shot")                      # difference within each draw, and its interval

Labels of a query are read after every answer of a method is in: selection on test labels cannot happen by accident.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from xmodal_lib.calibration import expected_calibration_error
from xmodal_lib.episodes import Episode
from xmodal_lib.gap import modality_gap as modality_gap
from xmodal_lib.home import replacing
from xmodal_lib.methods.method import Method
from xmodal_lib.tables import Tables, places

WITH_VAL, WITHOUT_VAL = "few-shot val", "validation-free"
Described = Episode | tuple[Mapping[str, Any], Episode]  # with columns of its own, such as {"shot": 4}
Variants = Mapping[str, Mapping[str, Callable[[Method], Method]]]


def evaluate(
    methods: Mapping[str, Method],
    episodes: Iterable[Described],
    base: Tables | None = None,
    *,
    variants: Variants | None = None,
    domains: Mapping[str, Tables] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Fit and score every method on every episode.

    Each method is given `pretrain(base)` once (where there is a base), then for each episode the episode's seed, its
    support and val, and then the query without labels. `variants[method][name]` makes another fitted method from a
    fitted one, which is scored under its own name without a fit (one probe, many WiSE-FT weights).

    `domains` are asked in place of the episode's query, in lines of their own with the column `domain`. A domain may
    have fewer classes than were learnt: it is answered among its own.

    Returns one line a (method, episode, metric), columns: method, track, seed, those of the episode, metric, value.
    Metrics: "accuracy" over items; "macro accuracy" and "macro F1", means over classes; "ECE", the expected calibration
    error (`calibration`); "accuracy M" from the rows of modality M alone; "fit seconds" of CPU (a variant: its method's
    and its own).

    Raises:
        ValueError: there is no episode, a method answers in the wrong shape or not with probabilities, or a domain
            has a class that was not learnt.
        Whatever a method raises, with a note that names the method and the seed.
    """
    variants = variants or {}
    for name in variants:
        _check_named(name, methods)
    ready = {name: method if base is None else method.pretrain(base) for name, method in methods.items()}
    lines: list[dict[str, Any]] = []
    steps = tqdm(_steps(ready, episodes), total=_total(ready, episodes), disable=not progress, unit="fit")
    for name, given, described in steps:
        columns, episode = described if isinstance(described, tuple) else ({}, described)
        steps.set_description(f"{name}, seed {episode.seed}", refresh=False)
        track = WITHOUT_VAL if episode.val is None else WITH_VAL
        try:
            for shown, domain, scores in _scores(name, given, episode, variants.get(name, {}), domains):
                head = {"method": shown, "track": track, "seed": episode.seed, **columns, **domain}
                lines += [{**head, "metric": metric, "value": value} for metric, value in scores.items()]
        except Exception as error:
            error.add_note(f"method {name!r}, seed {episode.seed}{''.join(f', {k} {v}' for k, v in columns.items())}")
            raise
    if not lines:
        raise ValueError("there is nothing to evaluate: at least one method and one episode are needed")
    return pd.DataFrame(lines)


def both_tracks(episodes: Iterable[Described]) -> Iterator[Described]:
    """Each episode that has a val, and then the same without it (the validation-free track)."""
    for described in episodes:
        columns, episode = described if isinstance(described, tuple) else ({}, described)
        yield columns, episode
        if episode.val is not None:
            yield columns, replace(episode, val=None)


def predictions(fitted: Method, query: Tables) -> pd.DataFrame:
    """What a fitted method answers: one line an item, columns item, y, yhat and confidence (of yhat)."""
    proba = _proba(fitted, query, query.classes)
    confidence, yhat = proba.max(1)
    columns = {"item": query.items(), "y": query.labels(), "yhat": yhat, "confidence": confidence}
    return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})


def interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and t-interval (mean, low, high) of independent draws; low and high are NaN for fewer than two.

    >>> [round(v, 3) for v in interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    x = np.asarray(values, float)
    if len(x) < 2:
        return (float(x.mean()) if len(x) else math.nan), math.nan, math.nan
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    return float(x.mean()), float(x.mean() - half), float(x.mean() + half)


def per_cent(mean: float, low: float = math.nan, high: float = math.nan, *, signed: bool = False) -> str:
    """A share and its interval as one reads them; the mean alone where there is no interval.

    >>> per_cent(0.412, 0.4, 0.424), per_cent(0.05, 0.03, 0.07, signed=True), per_cent(0.5)
    ('41.2 ± 1.2', '+5.0 ± 2.0', '50.0')
    """
    points, half = round(100 * mean, 1) + 0.0, 100 * (high - low) / 2  # + 0.0: no "-0.0"
    return (f"{points:+.1f}" if signed else f"{points:.1f}") + (f" ± {half:.1f}" if half == half else "")


def summary(frame: pd.DataFrame, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Mean, low, high (95 % interval over draws) and n, the number of draws, for each group.

    `by` defaults to every column but seed and value. Lines of one seed within a group are averaged first, since they
    are no independent draws.
    """
    by = [c for c in frame.columns if c not in ("seed", "value")] if by is None else list(by)
    draws = frame.groupby([*by, "seed"], sort=False, dropna=False)["value"].mean().reset_index()
    return _intervals(draws, by)


def paired(frame: pd.DataFrame, method_a: str, method_b: str, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Difference a - b within each draw: mean, low, high (95 % interval) and n of the draws that both have.

    Raises:
        ValueError: a name is no method of the frame, or the two share no draw.
    """
    for name in (method_a, method_b):
        _check_named(name, frame["method"].unique().tolist())
    by = [c for c in frame.columns if c not in ("method", "seed", "value")] if by is None else list(by)
    draws = frame.groupby(["method", *by, "seed"], sort=False, dropna=False)["value"].mean()
    difference = (draws.loc[method_a] - draws.loc[method_b]).dropna().reset_index()
    if difference.empty:
        raise ValueError(f"{method_a!r} and {method_b!r} share no draw; evaluate both on the same episodes")
    table = _intervals(difference, by)
    table.insert(0, "a", method_a)
    table.insert(1, "b", method_b)
    return table


def macro_f1(y: np.ndarray, yhat: np.ndarray) -> float:
    """F1 of each class that occurs in y (n,) or yhat (n,), then their mean: a class that is never found counts 0.

    >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]))
    0.6666666666666666
    """
    size = int(max(y.max(), yhat.max())) + 1
    both = np.bincount(y, minlength=size) + np.bincount(yhat, minlength=size)  # 2 TP + FN + FP
    f1 = 2 * np.bincount(y[y == yhat], minlength=size)[both > 0] / both[both > 0]
    return float(f1.mean())


def retrieval(a: Tensor, ids_a: Tensor, b: Tensor, ids_b: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """For each row of a that has a partner (equal id) in b: how high does cosine rank its best partner in b?

    a (n, d), ids_a (n,), b (m, d), ids_b (m,); ids are pair ids, or labels. Returns {"R@1": share, ..., "median rank",
    "queries", "candidates"}; rank 1 is best, and a tie counts against the partner.

    Raises:
        ValueError: no row of a has a partner in b.
    """
    has = torch.isin(ids_a, ids_b)
    if not has.any():
        raise ValueError("no row of the first modality has a partner in the second; are the pair ids of one data set?")
    z_a, z_b = normalize(a[has].double(), dim=1), normalize(b.double(), dim=1)
    ranks = []
    for z, ids in zip(z_a.split(1024), ids_a[has].split(1024), strict=True):
        cosine, partner = z @ z_b.T, ids[:, None] == ids_b[None]  # (q, m)
        best = cosine.masked_fill(~partner, -torch.inf).amax(1, keepdim=True)
        ranks.append(1 + ((cosine >= best - 1e-12) & ~partner).sum(1))  # equal but for rounding is a tie
    rank = torch.cat(ranks).double()
    recall = {f"R@{k}": (rank <= k).double().mean().item() for k in ks}
    return {**recall, "median rank": rank.quantile(0.5).item(), "queries": len(rank), "candidates": len(b)}


def save(frame: pd.DataFrame, folder: str | Path, name: str, **provenance: Any) -> None:
    """Write NAME.parquet and NAME.json, the latter with the same lines and where they come from (and versions)."""
    packages = {p: version(p) for p in ("xmodal", "torch", "numpy", "pandas", "scikit-learn")}
    about = {**provenance, "python": platform.python_version(), "versions": packages}
    lines = json.loads(frame.to_json(orient="records", double_precision=15))
    with replacing(Path(folder, f"{name}.parquet")) as path:
        frame.to_parquet(path, index=False)
    with replacing(Path(folder, f"{name}.json")) as path:
        path.write_text(json.dumps({"provenance": about, "rows": lines}, indent=1, default=str), encoding="utf-8")


def _steps(ready: Mapping[str, Method], episodes: Iterable[Described]) -> Iterator[tuple[str, Method, Described]]:
    for described in episodes:
        for name, method in ready.items():
            yield name, method, described


def _total(ready: Mapping[str, Method], episodes: Iterable[Described]) -> int | None:
    return len(ready) * len(episodes) if isinstance(episodes, Sequence) else None


def _scores(
    name: str, given: Method, episode: Episode, variants: Mapping[str, Callable[[Method], Method]],
    domains: Mapping[str, Tables] | None,
) -> Iterator[tuple[str, dict[str, str], dict[str, float]]]:  # fmt: skip
    """Scores of the fitted method, then of each variant, in each domain: name, {"domain": name} if any, scores."""
    asked = {(): episode.query} if domains is None else {(("domain", d),): query for d, query in domains.items()}
    learnt = episode.support.classes
    for head, query in asked.items():
        try:
            places(query.classes, learnt)
        except ValueError as error:
            raise ValueError(f"domain {dict(head).get('domain')!r}: {error}") from None
    method = copy.copy(given)  # and not dataclasses.replace, which would drop what pretrain learnt
    method.seed = episode.seed
    start = time.process_time()
    fitted = method.fit(episode.support, episode.val)
    seconds = time.process_time() - start
    for head, query in asked.items():
        yield name, dict(head), {**_accuracies(fitted, query, learnt), "fit seconds": seconds}
    for variant, derive in variants.items():
        start = time.process_time()
        other = derive(fitted)
        own = time.process_time() - start
        for head, query in asked.items():
            yield variant, dict(head), {**_accuracies(other, query, learnt), "fit seconds": seconds + own}


def _accuracies(fitted: Method, query: Tables, learnt: tuple[str, ...]) -> dict[str, float]:
    proba = _proba(fitted, query, learnt).cpu()
    answers = {"": (query, proba.argmax(1))}
    for m in query.modalities:
        alone = query.only(m)
        if len(query.modalities) == 1:
            answers[m] = answers[""]
        elif len(query[m]) and fitted.answers(m):
            answers[m] = alone, _proba(fitted, alone, learnt).argmax(1).cpu()
    # every answer is in: only now are the labels read
    right = {m: (asked.labels().cpu() == yhat).double() for m, (asked, yhat) in answers.items()}
    y = query.labels().cpu()
    classes = [right[""][y == c].mean() for c in y.unique()]
    return {
        "accuracy": right[""].mean().item(),
        "macro accuracy": torch.stack(classes).mean().item(),
        "macro F1": macro_f1(y.numpy(), answers[""][1].numpy()),
        "ECE": expected_calibration_error(proba, y),
        **{f"accuracy {m}": right[m].mean().item() for m in query.modalities if m in right},
    }


def _proba(fitted: Method, query: Tables, learnt: tuple[str, ...]) -> Tensor:
    """Probabilities, over its own classes, of a query whose labels the method does not see."""
    proba = fitted.proba(replace(query.withheld(), classes=learnt))
    shape = (len(query.items()), len(learnt))
    if tuple(proba.shape) != shape:
        raise ValueError(f"proba is of shape {tuple(proba.shape)}; (items, classes) = {shape} is needed")
    if not torch.allclose(proba.sum(1), proba.new_ones(()), atol=1e-3):  # NaN fails too
        raise ValueError("rows of proba do not sum to 1")
    if query.classes == learnt:
        return proba
    own = proba[:, places(query.classes, learnt)]
    return own / own.sum(1, keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)


def _intervals(draws: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    lines = []
    for key, group in draws.groupby(list(by), sort=False, dropna=False) if by else [((), draws)]:
        mean, low, high = interval(group["value"].to_numpy())
        lines.append({**dict(zip(by, key, strict=True)), "mean": mean, "low": low, "high": high, "n": len(group)})
    return pd.DataFrame(lines)


def _check_named(name: str, names: Iterable[str]) -> None:
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        raise ValueError(f"no method {name!r}; {hint}")
