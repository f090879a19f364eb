"""How many latent domains? The paper leaves the number d open; here it is chosen by the bound on held-out base rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from xmodal_lib.methods.gtl import GTL
from xmodal_lib.tables import Tables
from xmodal_lib.training import generator


def choose_domains(
    method: GTL, base: Tables, numbers: Sequence[int] = (0, 8, 32, 128), share: float = 0.2, samples: int = 8
) -> tuple[GTL, pd.DataFrame]:
    """The method with the number of domains whose bound of log p(x) is highest on held-out rows of the base.

    `share` of the base items is held out, drawn by the method's seed; the method that is returned is not trained yet.
    The table has a line a number: bound (nats a row, mean), error (its standard error over rows) and used, the number
    of domains that get 1 % or more of the shares.
    """
    items = base.items()
    order = items[torch.randperm(len(items), generator=generator(method.seed, 10))]
    held, rest = base.take(order[: round(share * len(items))]), base.take(order[round(share * len(items)) :])
    lines: list[dict[str, float]] = []
    for number in numbers:
        trained = replace(method, domains=number).pretrain(rest)
        bound = torch.cat(list(trained.log_likelihood(held, samples).values()))
        shares = torch.cat([q.shares for q in trained.posterior(held).values()]).mean(0)
        lines.append({"domains": number, "bound": float(bound.mean()), "error": float(bound.std() / len(bound) ** 0.5),
                      "used": int((shares >= 0.01).sum())})  # fmt: skip
    best = max(lines, key=lambda line: line["bound"])
    return replace(method, domains=int(best["domains"])), pd.DataFrame(lines)
