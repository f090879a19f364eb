"""How far concept and disturbance are apart, in numbers: linear probes, and what one says of the other."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from xmodal_lib.methods.gtl import GTL
from xmodal_lib.methods.gtl_losses import log_normal, sample
from xmodal_lib.synthetic import recovered
from xmodal_lib.tables import Tables
from xmodal_lib.training import generator


def probes(method: GTL, rows: Tables, folds: int = 5) -> pd.DataFrame:
    """Accuracy of a logistic regression, cross-validated over rows: of modality and class, from concept, disturbance
    and estimate.

    Columns latent, of, accuracy, chance (the share of the largest class). If concept and disturbance do what they are
    named for, the modality is at chance from the concept and high from the disturbance, and the class the other way.
    """
    found = method.posterior(rows)
    targets = {
        "modality": torch.cat([torch.full((len(t),), k) for k, t in enumerate(rows.rows.values())]),
        "class": torch.cat([t.y for t in rows.rows.values()]).cpu(),
    }
    latents: dict[str, Tensor] = {
        "concept": torch.cat([q.concept for q in found.values()]),
        "disturbance": torch.cat([q.disturbance for q in found.values()]),
        "estimate": torch.cat([q.estimate for q in found.values()]),
    }
    lines = []
    for latent, z in latents.items():
        for name, y in targets.items():
            count = y.bincount()
            if (count > 0).sum() < 2 or count[count > 0].min() < 2:  # nothing to tell apart, or to hold out
                continue
            parts = StratifiedKFold(min(folds, int(count[count > 0].min())), shuffle=True, random_state=0)
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
            score = cross_val_score(model, z.cpu().numpy(), y.numpy(), cv=parts).mean()
            lines.append({"latent": latent, "of": name, "accuracy": score, "chance": float(count.max() / len(y))})
    return pd.DataFrame(lines)


def identified(method: GTL, rows: Tables, truth: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Of `synthetic` rows: R^2 of the true latents from the found ones by one linear map for all modalities.

    "R2 concept" and "R2 disturbance" should be 1; "R2 disturbance from concept" and its reverse, what is in the wrong
    place, 0.
    """
    q = method.posterior(rows)
    found = {name: torch.cat([getattr(q[m], name) for m in truth]) for name in ("concept", "disturbance")}
    true = dict(zip(("concept", "disturbance"), map(torch.cat, zip(*truth.values(), strict=True)), strict=True))
    return {
        "R2 concept": recovered(found["concept"], true["concept"]),
        "R2 disturbance": recovered(found["disturbance"], true["disturbance"]),
        "R2 disturbance from concept": recovered(found["concept"], true["disturbance"]),
        "R2 concept from disturbance": recovered(found["disturbance"], true["concept"]),
    }


def across_items(method: GTL, rows: Tables) -> pd.DataFrame:
    """R^2 with which a linear map gives the disturbance from the concept over items, and the reverse, by modality."""
    lines = []
    for m, q in method.posterior(rows).items():
        for a, b in (("concept", "disturbance"), ("disturbance", "concept")):
            lines.append({"modality": m, "from": a, "to": b, "R2": recovered(getattr(q, a), getattr(q, b))})
    return pd.DataFrame(lines)


@torch.no_grad()
def within_items(method: GTL, rows: Tables, samples: int = 256) -> Mapping[str, Tensor]:
    """Do concept and disturbance hang together once the item is known? {modality: (n_m,)}, 0 for not at all, up to 1.

    The paper assumes that they do not, and q has it so by construction. The true posterior p(z_c, z_m | x) is reached
    by weighing samples of q with p / q; the number is the root mean square correlation, under these weights, of a
    number of the concept with one of the disturbance, less what as many samples of q show by chance (never below 0).
    """
    rng, found = generator(method.seed, 9), {}
    for m, q in method.posterior(rows).items():
        s = method._standard(rows[m].x)
        drawn_c, drawn_m, weights = [], [], []
        for _ in range(samples):
            z_c, z_m = sample(q.concept, q.concept_log, rng), sample(q.disturbance, q.disturbance_log, rng)
            joint = log_normal(s, method.nets_["generator"](z_c, z_m))
            joint = joint + log_normal(z_c, torch.zeros_like(z_c)) + log_normal(z_m, torch.zeros_like(z_m))
            drawn = log_normal(z_c, q.concept, q.concept_log) + log_normal(z_m, q.disturbance, q.disturbance_log)
            drawn_c.append(z_c)
            drawn_m.append(z_m)
            weights.append(joint - drawn)
        w = torch.stack(weights).softmax(0)  # (S, n)
        c, d = torch.stack(drawn_c), torch.stack(drawn_m)  # (S, n, Nc), (S, n, Nm)
        # as many equal weights as the uneven ones are worth: what correlation is there by chance?
        worth = 1 / w.square().sum(0)  # (n,) effective samples
        by_chance = (1 / worth).clamp(max=1)
        squared = _correlation(w, c, d).square().mean((1, 2))
        found[m] = (squared - by_chance).clamp(min=0).sqrt()
    return found


def _correlation(w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Weighted correlations: (S, n), (S, n, p), (S, n, q) -> (n, p, q)."""
    parts = []
    for z in (a, b):
        centred = z - (w[..., None] * z).sum(0)
        parts.append(centred / (w[..., None] * centred.square()).sum(0).sqrt().clamp(min=1e-9))
    return torch.einsum("sn,snp,snq->npq", w, *parts)
