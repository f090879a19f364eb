"""Prints the README's table of the papers' numbers and ours, from the ledger's ten draws."""

from xmodal_lib.ledger import decided, effects, kept, rows

HEAD = ["| difference | paper | file | notebook | paper's number | ours | verdict | why different |", "|---" * 8 + "|"]
LINES = [  # what is compared; file of methods; row of the ledger; why the two differ, as far as we know
    ("cross-modal linear probe − linear probe", "adaptation.py", "lin-linear",
     "alike; here all of it is the start from text"),
    ("text rows, both from a text start", "adaptation.py", "lin-rows",
     "a control that the paper lacks; users of its code asked"),
    ("cross-modal WiSE-FT − WiSE-FT", "adaptation.py", "lin-wiseft",
     "both start from the text, where rows add nothing here"),
    ("cross-modal prompting − CoOp", "prompting.py", "lin-prompting",
     "one shot, ten passes of the published 50"),
    ("cross-modal adapter − Tip-Adapter", "finetuning.py", "lin-adapter",
     "nothing beats zero-shot here, and Tip-Adapter stays nearer to it"),
    ("partial finetuning − linear probe", "finetuning.py", "lin-partial",
     "one shot; the last convolution of a small net"),
    ("an image as a shot for sounds", "adaptation.py", "lin-image-audio",
     "the bridge brought images and sounds to the text, and not to each other"),
    ("MLA − joint training", "mla.py", "mla-joint", "small nets on speech and drawings"),
    ("MLA − unimodal models that never meet", "mla.py", "mla-shared", "a control that the paper lacks"),
    ("MLA − the same without its projection", "mla.py", "mla-projection", "the turns alone do it here"),
    ("CroMA − no alignment", "croma.py", "croma-scratch", "typed and spoken words, a short training"),
    ("CroMA − plain alignment", "croma.py", "croma-meta",
     "the outer step goes half as far; a longer training was not tried"),
    ("GTL − class means", "gtl.py", "gtl-means", "drawings; 16 domains and 12 epochs, for speed"),
    ("GTL − the same without its base stage", "gtl.py", "gtl-base", "as the row above"),
    ("GTL − the same without its estimator", "gtl.py", "gtl-estimator",
     "nor with domains that are real: notebook 54"),
]  # fmt: skip


def table() -> str:
    found = decided(rows(), kept())
    found = found.assign(ours=effects(found)).set_index("id")
    lines = []
    for what, file, name, why in LINES:
        row = found.loc[name]
        paper, notebook, published = row["source"].partition(",")[0], row["scores"][:2], row["published"]
        cells = what, paper, f"`{file}`", notebook, published or "none at hand", row["ours"], row["verdict"], why
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*HEAD, *lines])


if __name__ == "__main__":
    print(table())
