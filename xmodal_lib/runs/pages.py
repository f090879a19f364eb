"""HTML that needs nothing from outside: one style, a page frame, and an executed notebook as a page.

Formulas become MathML (no script), pictures are embedded, plotly figures share one plotly.js below results/, and a
live widget, which a page cannot show, says so.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from xmodal_lib.home import replacing

PLOTLY, WIDGET = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"

STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #57606a; --paper: #ffffff; --panel: #f5f7f9;
  --line: #d5dbe1; --link: #0b57b0; --good: #116329; --bad: #b3261e; --wait: #7a5200; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --soft: #a3adb8; --paper: #14181d; --panel: #1c2229;
  --line: #38414b; --link: #7ab7ff; --good: #63c67b; --bad: #ff8f85; --wait: #e3b251; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem clamp(0.9rem, 3vw, 2.5rem) 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0.5rem 0; } h2 { font-size: 1.35rem; margin: 2.5rem 0 0.4rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.4rem; } h4 { font-size: 0.95rem; margin: 1rem 0 0.3rem; }
p { max-width: 48rem; margin: 0.5rem 0; } a { color: var(--link); } .soft { color: var(--soft); }
code, pre { font: 0.86rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--panel); border-radius: 6px; padding: 0.7rem 0.9rem; overflow-x: auto; margin: 0.4rem 0; }
:not(pre) > code { background: var(--panel); padding: 0.1em 0.3em; border-radius: 4px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0.4rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.28rem 0.8rem 0.28rem 0; border: 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; } td.n, th.n { text-align: right; } thead th { color: var(--soft); font-weight: 600; }
img, svg { max-width: 100%; height: auto; } img { background: #fff; border-radius: 4px; }
figure { margin: 0; } figcaption { font-size: 0.86rem; color: var(--soft); }
.figures { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
summary { cursor: pointer; padding: 0.25rem 0; } summary:hover { color: var(--link); }
details > *:not(summary), details > .scroll { margin-left: 1.1rem; }
details.job { border-top: 1px solid var(--line); padding: 0.3rem 0; }
nav ul, ul.plain { list-style: none; padding: 0; margin: 0.4rem 0; } nav li { padding: 0.15rem 0; }
.done { color: var(--good); } .failed { color: var(--bad); } .missing { color: var(--wait); }
.state { font-weight: 600; font-size: 0.86rem; white-space: nowrap; } a:focus-visible, summary:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
p:has(> math[display="block"]) { max-width: none; }
math { font-size: 1.1em; } math[display="block"] { margin: 0.7rem 0; overflow-x: auto; overflow-y: hidden; }
"""

NOTEBOOK_STYLE = """
body { max-width: 66rem; } .cell { margin: 0.9rem 0; } .prompt { display: none; }
.rendered_html table { margin: 0.4rem 0; display: block; overflow-x: auto; border: 0; } .anchor-link { display: none; }
.highlight pre { border-left: 3px solid var(--line); border-radius: 0 6px 6px 0; font-size: 0.8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; } .output_area { margin: 0.4rem 0; }
.output_text pre { background: none; padding: 0 0.9rem; } .output_error pre { border-left: 3px solid var(--bad); }
.output_stderr pre { color: var(--soft); } .rendered_html th { color: var(--soft); } h2 { margin-top: 2rem; }
.ansi-red-fg, .ansi-red-intense-fg { color: var(--bad); } .ansi-green-fg, .ansi-green-intense-fg { color: var(--good); }
.ansi-blue-fg, .ansi-cyan-fg, .ansi-blue-intense-fg { color: var(--link); } .ansi-bold { font-weight: 600; }
.ansi-yellow-fg, .ansi-yellow-intense-fg { color: var(--wait); }
.highlight .k, .highlight .kn, .highlight .kc, .highlight .ow, .highlight .nb, .highlight .bp { color: #7d3fb2; }
.highlight .s1, .highlight .s2, .highlight .sd, .highlight .sa, .highlight .si { color: #11632b; }
.highlight .c1, .highlight .ch { color: var(--soft); }
.highlight .mi, .highlight .mf, .highlight .nf { color: #0b57b0; }
@media (prefers-color-scheme: dark) {
.highlight .k, .highlight .kn, .highlight .kc, .highlight .ow, .highlight .nb, .highlight .bp { color: #d3a6ff; }
.highlight .s1, .highlight .s2, .highlight .sd, .highlight .sa, .highlight .si { color: #8fd19e; }
.highlight .mi, .highlight .mf, .highlight .nf { color: #8dc0ff; } }
"""


def page(title: str, body: str, *, style: str = "", head: str = "") -> str:
    """A whole document."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{STYLE}{style}</style>\n{head}</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def notebook_page(notebook: Path, shared: Path, away: str, *, home: bool = True) -> str:
    """An executed notebook as a document; plotly.js goes to the folder `shared`, which the page sees at `away`."""
    import nbformat
    from nbconvert import HTMLExporter

    book = nbformat.read(notebook, 4)
    head = ""
    if _show(book):
        write_plotly(shared / "plotly.min.js")
        head = f'<script src="{away}/plotly.min.js"></script>\n'
    exporter = HTMLExporter(template_name="basic", embed_images=True)
    exporter.register_filter("markdown2html", lambda source: markdown(source))
    body, _ = exporter.from_notebook_node(book)
    if home:  # another notebook is its section among the results
        body = re.sub(r'href="(\w+)\.ipynb(#[^"]*)?"', rf'href="{away}/index.html#\1"', body)
    up = f'<nav class="soft"><a href="{away}/index.html">All results</a></nav>\n' if home else ""
    links = f'{up}<p class="soft">Executed notebook; <a href="{notebook.name}">open the .ipynb</a> to change it.</p>\n'
    title, _ = title_and_question(notebook)
    return page(title, f"{links}<main>\n{body}\n</main>", style=NOTEBOOK_STYLE, head=head)


def title_and_question(notebook: Path) -> tuple[str, str]:
    """The first heading of a notebook, and the first paragraph after it, both as markdown text."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    text = next((t for c in cells if c["cell_type"] == "markdown" and (t := "".join(c["source"])).startswith("# ")), "")
    blocks = [block.strip() for block in re.split(r"\n\s*\n|(?<=\n)(?=#)|(?<=\n)(?=[-*] )", text) if block.strip()]
    title = blocks[0].partition("\n")[0].lstrip("# ") if blocks else notebook.stem
    rest = ([blocks[0].partition("\n")[2].strip()] if blocks else []) + blocks[1:]
    question = next((b for b in rest if b and not b.startswith("#")), "")
    return title, " ".join(question.split())


def paragraph(source: str) -> str:
    """A paragraph of markdown without formulas, as HTML; quicker to start than `markdown`."""
    import mistune

    return str(mistune.html(source))


def markdown(source: str) -> str:
    """Markdown with formulas, as HTML with MathML."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return formula(body, "block")

        def inline_math(self, body: str) -> str:
            return formula(body, "inline")

        def latex_environment(self, name: str, body: str) -> str:
            return formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    return MarkdownWithMath(renderer=Renderer(escape=False)).render(source)


def formula(tex: str, display: str) -> str:
    """TeX as MathML, with the TeX to copy from its title; as plain TeX where it cannot be read."""
    from latex2mathml.converter import convert

    try:
        math = convert(re.sub(r"\{(aligned|split|equation\*?)\}", "{align*}", tex), display=display)
    except Exception:  # the converter raises whatever its parser trips over
        return f"<code>{escape(tex)}</code>"
    return math.replace("<math ", f'<math title="{escape(tex.strip(), quote=True)}" ', 1)


def write_plotly(path: Path) -> None:
    """plotly.js of the installed package, once."""
    if path.is_file():
        return
    from plotly.offline import get_plotlyjs

    with replacing(path) as partial:
        partial.write_text(get_plotlyjs(), "utf-8")


def _show(book: Any) -> bool:
    """Make outputs fit for a page, in place: plotly data -> a figure, widget -> its picture or a note, alt texts.

    Returns whether there is a plotly figure.
    """
    heading, figures = "Figure", 0
    for cell in book.cells:
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), heading)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                figures += 1
                output["data"] = {"text/html": _plotly(data[PLOTLY], f"plotly-{figures}")}
            elif WIDGET in data:
                data.pop(WIDGET)
                if not {"image/png", "image/svg+xml", "text/html"} & set(data):
                    data["text/html"] = '<p class="soft">A live widget stands here in JupyterLab.</p>'
            if "image/png" in data:
                about = output.setdefault("metadata", {}).setdefault("image/png", {})
                about.setdefault("alt", f"{heading}: figure")
    return figures > 0


def _plotly(figure: dict[str, Any], name: str) -> str:
    parts = [json.dumps(figure.get(key, empty)) for key, empty in (("data", []), ("layout", {}))]
    safe = ", ".join(part.replace("</", "<\\/") for part in parts)
    height = figure.get("layout", {}).get("height", 450)
    return (
        f'<div id="{name}" style="height:{height}px"></div>'
        f'<script>Plotly.newPlot("{name}", {safe}, {{"responsive": true, "displaylogo": false}})</script>'
    )
