"""What the explorer shows beside its maps, as HTML that needs nothing from outside: an item, a table, a curve, ...

All words are escaped; pictures and sounds are data URIs; every picture has a text alternative.
"""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

SECONDS = 10  # of a sound, at most: it travels inside the page
STYLE = """<style>
.xm { font: 13px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; color: #1d2733; }
.xm h3 { font-size: 15px; font-weight: 650; margin: 4px 0 2px; }
.xm h4 { font-size: 11px; margin: 14px 0 5px; color: #56616d; text-transform: uppercase; letter-spacing: .05em; }
.xm p { margin: 4px 0; }
.xm .soft { color: #56616d; }
.xm .say { background: #f3f6f9; border-radius: 6px; padding: 10px 12px; margin: 6px 0; }
.xm .warn { background: #fdf3e7; border-left: 3px solid #d55e00; border-radius: 3px; padding: 6px 10px; }
.xm .chip { display: inline-block; border-radius: 9px; padding: 0 8px; background: #e8edf2; margin: 0 4px 2px 0; }
.xm .swatch { display: inline-block; border-radius: 50%; background: var(--c); box-shadow: 0 0 0 1px #0002;
  vertical-align: -1px; margin-right: 5px; flex: none; width: 11px; height: 11px; }
.xm .ramp { display: inline-block; width: 160px; height: 11px; border-radius: 3px; margin: 0 8px; }
.xm .legend { display: flex; flex-wrap: wrap; gap: 2px 14px; max-height: 86px; overflow: auto; padding: 2px 0; }
.xm .legend span { display: inline-flex; align-items: center; white-space: nowrap; }
.xm .legend small { color: #56616d; margin-left: 4px; }
.xm .views { display: flex; gap: 12px; align-items: flex-start; flex-wrap: wrap; }
.xm .views > div { min-width: 130px; flex: 1; }
.xm .views > .seen { flex: 0 0 auto; min-width: 0; }
.xm .views img { border: 1px solid #dde3e9; border-radius: 6px; background: white; display: block; }
.xm .several { display: flex; gap: 5px; flex-wrap: wrap; }
.xm .words { font-size: 17px; margin: 0 0 4px; }
.xm audio { width: 100%; height: 34px; min-width: 130px; }
.xm .near { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 6px; }
.xm .gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(66px, 1fr)); gap: 6px;
  max-height: 330px; overflow: auto; padding: 2px; }
.xm figure { margin: 0; border: 1px solid #dde3e9; border-radius: 6px; padding: 4px; text-align: center;
  background: white; overflow: hidden; border-bottom: 3px solid var(--c, #dde3e9); min-width: 0; }
.xm figure img { width: 100%; max-width: 56px; aspect-ratio: 1; object-fit: contain; display: block;
  margin: 0 auto 2px; }
.xm figure.same { box-shadow: 0 0 0 2px #1d2733; }
.xm figcaption { font-size: 11px; line-height: 1.25; overflow-wrap: anywhere; display: -webkit-box; overflow: hidden;
  -webkit-line-clamp: 2; -webkit-box-orient: vertical; }
.xm figcaption + small, .xm figure small { color: #56616d; font-size: 10.5px; }
.xm .tile { font-size: 12px; height: 56px; display: flex; align-items: center; justify-content: center;
  overflow: hidden; line-height: 1.2; color: #33414e; overflow-wrap: anywhere; }
.xm .scroll { max-height: 330px; overflow: auto; border: 1px solid #e4e9ee; border-radius: 6px; }
.xm table { border-collapse: collapse; font-size: 12px; width: 100%; }
.xm th { text-align: left; background: #f3f6f9; position: sticky; top: 0; font-weight: 600; }
.xm th, .xm td { padding: 3px 8px; border-bottom: 1px solid #e9edf1; white-space: nowrap; }
.xm td.n { text-align: right; font-variant-numeric: tabular-nums; }
.xm .big { font-size: 30px; font-weight: 650; letter-spacing: -.01em; line-height: 1.1; }
.xm svg { width: 100%; height: auto; display: block; }
.xm svg text { font: 11px system-ui, sans-serif; fill: #56616d; }
.xm-bar { align-items: flex-end; flex-wrap: wrap; gap: 4px 10px; padding: 0 0 6px; }
.xm-panel > * { max-width: 100%; box-sizing: border-box; }
.xm-panel select { margin-right: 4px; }
.xm-panel .widget-html, .xm-panel .widget-html-content { min-width: 0; flex: 1 1 auto; }
.xm-panel .widget-html { width: calc(100% - 4px); }
.xm-panel { box-sizing: border-box; }
.xm-panel { border: 1px solid #dde3e9; border-radius: 8px; padding: 10px 12px; background: #fff; }
.xm-map { border: 1px solid #dde3e9; border-radius: 8px; overflow: hidden; background: #fff; }
.xm-tabs button { font-weight: 600; }
.xm-all .widget-toggle-button { padding: 0 14px; }
.xm-all label, .xm-all .widget-label { font-size: 12px; color: #56616d; }
.xm-all button:focus-visible, .xm-all select:focus-visible, .xm-all input:focus-visible { outline: 2px solid #0072b2; }
</style>"""
BLANK = "no picture"


def block(*parts: str) -> str:
    return f'<div class="xm">{"".join(parts)}</div>'


def safe(words: object) -> str:
    return html.escape(str(words))


def say(words: str) -> str:
    """A sentence to the user where there is nothing else to show."""
    return block(f'<div class="say">{html.escape(words)}</div>')


def warn(words: str) -> str:
    return block(f'<p class="warn" role="alert">{html.escape(words)}</p>')


def picture_uri(picture: Image.Image, side: int = 64) -> str:
    """A picture at most `side` pixels high and wide, as a data URI."""
    small = picture.convert("RGBA" if picture.mode in ("RGBA", "LA", "P") else "RGB")
    small.thumbnail((side, side))
    return _uri(small, "webp", quality=85)


def sound_uri(samples: np.ndarray, rate: int) -> str:
    """A mono sound as WAV, 16 bit, at most SECONDS long."""
    cut = np.clip(np.asarray(samples, np.float64).reshape(-1)[: SECONDS * rate], -1, 1)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, int(rate), 0, "NONE", ""))
        file.writeframes((cut * 32767).astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode()


def legend(colours: Mapping[str, str], counts: Mapping[str, int], title: str) -> str:
    """The colours of a map by name, with how many points have each."""
    entries = [
        f'<span><i class="swatch" style="--c:{colour}"></i>{html.escape(name)}'
        f"<small>{counts.get(name, 0):,}</small></span>"
        for name, colour in colours.items()
    ]
    return block(f'<div class="legend" role="list" aria-label="{html.escape(title)}">{"".join(entries)}</div>')


def scale(low: float, high: float, stops: Sequence[str], title: str) -> str:
    """The legend of a column of numbers."""
    ramp = f'<i class="ramp" style="background:linear-gradient(90deg,{",".join(stops)})"></i>'
    return block(f'<div class="legend"><span>{html.escape(title)}&nbsp; {low:.3g}{ramp}{high:.3g}</span></div>')


def key(sizes: Mapping[str, float]) -> str:
    """Which modality has points of which size, in pixels; "" where there is one."""
    if len(sizes) < 2:
        return ""
    dots = [f'<span><i class="swatch" style="--c:#7b8794;width:{s:.0f}px;height:{s:.0f}px"></i>{html.escape(m)}</span>'
            for m, s in sizes.items()]  # fmt: skip
    marks = "<span>◆&nbsp;class prototype: the mean of a class, drawn where its nearest points lie</span>"
    return block(f'<div class="legend soft" role="list" aria-label="sizes">{"".join(dots)}{marks}</div>')


def view(modality: str, opened: Sequence[Any]) -> str:
    """One modality of an item: its pictures, its words, its sounds to play; or that it is missing."""
    head, name = f"<h4>{html.escape(modality)}</h4>", html.escape(modality)
    there = [what for what in opened if what is not None]
    if not there:
        why = f"this item has no {name}" if not len(opened) else f"the {name} is missing or cannot be read"
        return f'<div>{head}<p class="soft">{why}</p></div>'
    pictures = [what for what in there if isinstance(what, Image.Image)]
    sides = (112, 224) if len(pictures) == 1 else (72, 144)  # on the page, and of its pixels
    shown = "".join(f'<img width="{sides[0]}" alt="{name}" src="{picture_uri(p, sides[1])}">' for p in pictures)
    words = list(dict.fromkeys(what for what in there if isinstance(what, str)))
    shown += "".join(f'<p class="words">{html.escape(w)}</p>' for w in words)
    shown += "".join(_sound(name, *what) for what in there if isinstance(what, tuple))
    return f'<div class="{"seen" if pictures else "heard"}">{head}<div class="several">{shown}</div></div>'


def _sound(name: str, samples: np.ndarray, rate: int) -> str:
    cut = len(samples) > SECONDS * rate
    note = f'<p class="soft">the first {SECONDS} of {len(samples) / rate:.0f} s</p>' if cut else ""
    return f'<audio controls src="{sound_uri(samples, rate)}" aria-label="{name}"></audio>{note}'


def item(title: str, facts: Mapping[str, Any], opened: Mapping[str, Sequence[Any]], colour: str = "") -> str:
    """An item in all its modalities, and what is known of the point that was clicked."""
    swatch = f'<i class="swatch" style="--c:{colour}"></i>' if colour else ""
    chips = "".join(
        f'<span class="chip"><span class="soft">{html.escape(str(k))}</span> {html.escape(str(v))}</span>'
        for k, v in facts.items()
    )
    views = "".join(view(modality, what) for modality, what in opened.items())
    return block(f"<h3>{swatch}{html.escape(title)}</h3><p>{chips}</p>", f'<div class="views">{views}</div>')


def figure(caption: str, thumbnail: str, words: str = "", note: str = "", colour: str = "", same: bool = False) -> str:
    """A tile of a gallery: a thumbnail, or words where there is none."""
    shown = (
        f'<img alt="{html.escape(caption)}" src="{thumbnail}">'
        if thumbnail
        else f'<div class="tile">{html.escape(words or BLANK)}</div>'
    )
    style = f' style="--c:{colour}"' if colour else ""
    small = f"<small>{html.escape(note)}</small>" if note else ""
    mark = ' class="same" title="of the same item"' if same else ""
    return f"<figure{mark}{style}>{shown}<figcaption>{html.escape(caption)}</figcaption>{small}</figure>"


def table(frame: pd.DataFrame, most: int = 200) -> str:
    """A frame, its first `most` lines; numbers to the right."""
    head = "".join(f'<th scope="col">{html.escape(str(c))}</th>' for c in frame.columns)
    lines = []
    for line in frame.head(most).itertuples(index=False):
        cells = [
            f'<td class="n">{v:,.3g}</td>' if isinstance(v, float) else f"<td>{html.escape(str(v))}</td>" for v in line
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    more = f'<p class="soft">the first {most} of {len(frame):,}</p>' if len(frame) > most else ""
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll" tabindex="0"><table>{body}</table></div>{more}'


def confusion(true: Sequence[str] | np.ndarray, answered: Sequence[str] | np.ndarray, by: str, cut: str = "") -> str:
    """Which classes of a selection are taken for which: the right share in a sentence, and a table of counts."""
    true, answered = np.asarray(true, object), np.asarray(answered, object)
    right = float(np.mean(true == answered))
    line = f"{cut}{right:.0%} of these {len(true):,} points are answered with their class, {by}."
    names = list(dict.fromkeys(true))
    if len(names) == 1:
        line += f" All are of one class, {names[0]}."
    wrong = pd.DataFrame({"class": true, "answered": answered})[true != answered]
    if wrong.empty:
        return block(f"<p>{html.escape(line)}</p>", '<p class="soft">No class is taken for another here.</p>')
    counts = wrong.value_counts().reset_index(name="points")
    share = counts["points"] / counts["class"].map(pd.Series(true).value_counts())
    counts["of its class"] = [f"{s:.0%}" for s in share]
    return block(f"<p>{html.escape(line)}</p>", "<h4>Taken for another</h4>", table(counts, 40))


def curve(sweep: Sequence[tuple[float, float]], at: float, name: str, colour: str = "#0072B2") -> str:
    """Accuracy along one slider, as a small drawing with the present value marked."""
    x, y = np.array(sweep, float).T
    low, high = y.min(), max(y.max(), y.min() + 0.02)
    place = np.arange(len(x)) / max(len(x) - 1, 1)  # evenly spaced, as the slider's steps are
    px, py = 40 + 250 * place, 12 + 56 * (1 - (y - low) / (high - low))
    here = int(np.argmin(np.abs(x - at)))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True))
    words = f"accuracy along {name}: {y.min():.1%} to {y.max():.1%}, {y[here]:.1%} at {x[here]:g}"
    return (
        f'<svg viewBox="0 0 300 92" role="img" aria-label="{html.escape(words)}">'
        '<path d="M40 68H290" stroke="#dde3e9"/><path d="M40 12H290" stroke="#eef1f4"/>'
        f'<text x="34" y="16" text-anchor="end">{high:.0%}</text><text x="34" y="71" text-anchor="end">{low:.0%}</text>'
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{px[here]:.1f}" cy="{py[here]:.1f}" r="5" fill="{colour}" stroke="white" stroke-width="1.5"/>'
        f'<text x="40" y="86">{x[0]:g}</text><text x="165" y="86" text-anchor="middle">{html.escape(name)}</text>'
        f'<text x="290" y="86" text-anchor="end">{x[-1]:g}</text></svg>'
    )


def _uri(picture: Image.Image, kind: str, **settings: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind.upper(), **settings)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
