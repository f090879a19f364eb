"""Rows with a known concept and a known disturbance: ground truth for methods that claim to find them.

    x = f(z_c, z_m) + noise,    z_c ~ N(mu_y, I), a mean a class,    z_m ~ N(nu_k, I), a mean a latent domain

with one random two-layer net f for all modalities, so that what is learnt on one carries over. A modality uses latent
domains of its own. `shift` turns f for every modality but the first: its weights on the concept move from one random
draw (0) to another (1), which is the assumption of a common generator broken by degrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor

from xmodal_lib.episodes import Episode, draw_each
from xmodal_lib.tables import Table, Tables
from xmodal_lib.training import generator


@dataclass(frozen=True, eq=False)
class World:
    """Base rows of one modality; rows of novel classes in all of them; and what they were made from."""

    base: Tables
    novel: Tables
    concept: Mapping[str, Mapping[str, Tensor]]  # "base", "novel" -> modality -> (n_m, Nc)
    disturbance: Mapping[str, Mapping[str, Tensor]]  # (n_m, Nm)

    def episodes(self, *, shot: int, seed: int, number: int = 1, asked: float = 0.5) -> list[Episode]:
        """Few-shot tasks over the novel classes: `shot` rows a class and modality; the last `asked` of the rows are
        the query of all tasks.

        Raises:
            ValueError: a class has too few rows.
        """
        parts: list[dict[str, Table]] = [{}, {}]
        for m, table in self.novel.rows.items():
            count = len(table) // len(self.novel.classes)
            late = torch.arange(len(table)) % count >= round((1 - asked) * count)
            parts[0][m], parts[1][m] = table[~late], table[late]
        support, query = (Tables(part, self.novel.classes) for part in parts)
        own = np.random.default_rng(seed).integers(2**31, size=number).tolist()
        return [draw_each(support, query, shot=shot, seed=s) for s in own]

    def truth(self, rows: Tables, part: str = "novel") -> dict[str, tuple[Tensor, Tensor]]:
        """What these rows were made from, {modality: concept (n_m, Nc), disturbance (n_m, Nm)}."""
        found = {}
        for m, table in rows.rows.items():
            row = table.pair - (self.base if part == "base" else self.novel)[m].pair[0]
            found[m] = self.concept[part][m][row], self.disturbance[part][m][row]
        return found


def world(
    seed: int = 0, *, modalities: Sequence[str] = ("image", "sketch"), width: int = 64, concept: int = 8,
    disturbance: int = 4, domains: int = 3, classes: tuple[int, int] = (20, 10), rows: tuple[int, int] = (60, 30),
    spread: float = 2.0, noise: float = 0.1, shift: float = 0.0,
) -> World:  # fmt: skip
    """One draw. `classes` and `rows` (a class, in each modality) are for base and novel; `domains` for a modality.

    spread: standard deviation of the class and domain means, where rows scatter around theirs with 1.

    Raises:
        ValueError: a number below 1, or a shift outside 0..1.
    """
    if min(*classes, *rows, width, concept, disturbance, domains, len(modalities)) < 1:
        raise ValueError("every number of a synthetic world must be at least 1")
    if not 0 <= shift <= 1:
        raise ValueError(f"shift={shift}; a share from 0 to 1 is needed")
    rng = generator(seed, 7)
    size = 2 * (concept + disturbance)
    first = torch.randn(concept + disturbance, size, generator=rng) / (concept + disturbance) ** 0.5
    other = torch.randn(concept, size, generator=rng) / (concept + disturbance) ** 0.5
    last = torch.randn(size, width, generator=rng) / size**0.5
    places = spread * torch.randn(len(modalities) * domains, disturbance, generator=rng)
    parts: dict[str, Tables] = {}
    concepts: dict[str, dict[str, Tensor]] = {}
    disturbances: dict[str, dict[str, Tensor]] = {}
    for k, part in enumerate(("base", "novel")):
        means = spread * torch.randn(classes[k], concept, generator=rng)
        tables, concepts[part], disturbances[part] = {}, {}, {}
        for number, m in enumerate(modalities if part == "novel" else modalities[:1]):
            y = torch.arange(classes[k]).repeat_interleave(rows[k])
            z_c = means[y] + torch.randn(len(y), concept, generator=rng)
            domain = number * domains + torch.randint(domains, (len(y),), generator=rng)
            z_m = places[domain] + torch.randn(len(y), disturbance, generator=rng)
            turned = first.clone()
            if number:
                turned[:concept] = (1 - shift) ** 0.5 * first[:concept] + shift**0.5 * other
            x = torch.tanh(torch.cat([z_c, z_m], 1) @ turned) @ last
            x = x + noise * torch.randn(len(y), width, generator=rng)
            tables[m] = Table(x, y, torch.arange(len(y)) + number * len(y))
            concepts[part][m], disturbances[part][m] = z_c, z_m
        parts[part] = Tables(tables, tuple(f"{part} {c}" for c in range(classes[k])))
    return World(parts["base"], parts["novel"], concepts, disturbances)


def recovered(found: Tensor, true: Tensor, split: float = 0.5) -> float:
    """How much of the true latents a linear map of the found ones explains: R^2 on rows that it was not fitted on.

    found (n, k), true (n, t); rows are taken in turns of `split`. 1 is identified up to a linear map, 0 is nothing.
    """
    order = torch.randperm(len(found), generator=generator(0, len(found)))
    fit, ask = order[: int(split * len(found))], order[int(split * len(found)) :]
    model = LinearRegression().fit(found[fit].numpy(), true[fit].numpy())
    return float(model.score(found[ask].numpy(), true[ask].numpy()))
