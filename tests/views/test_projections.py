import numpy as np
import pytest
import torch

from xmodal_lib.sources import digits
from xmodal_lib.views import projections
from xmodal_lib.views.projections import along_gap, project, quality, trust


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))
    return tmp_path / "projections"


@pytest.fixture(scope="module")
def rows():
    table = digits.tables()["image"][:300]
    return table.x, table.y


def test_pca_is_the_plane_of_most_variance(rows):
    x = rows[0]
    xy = project(x, "pca", metric="euclidean")
    centred = (x - x.mean(0)).double().numpy()
    _, _, v = np.linalg.svd(centred, full_matrices=False)
    assert xy.shape == (300, 2) and xy.dtype == np.float32
    assert np.abs(np.abs(xy) - np.abs(centred @ v[:2].T)).max() < 1e-4


def test_a_map_is_computed_once_for_each_setting(rows, cache, monkeypatch):
    x = rows[0]
    first = project(x, "pca")
    assert len(list(cache.glob("*.npy"))) == 1
    monkeypatch.setattr(projections, "_computed", None)  # the second time nothing is computed
    assert np.array_equal(project(x.numpy(), "pca"), first)
    with pytest.raises(TypeError):
        project(x, "pca", seed=1)
    monkeypatch.undo()


def test_a_damaged_map_is_computed_again(rows, cache):
    first = project(rows[0], "pca")
    (file,) = cache.glob("*.npy")
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(project(rows[0], "pca"), first)
    assert np.array_equal(np.load(file), first)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "sne"}, "no projection 'sne'; there are pca, tsne, umap"),
        ({"method": "umap", "perplexity": 3}, "umap has no setting 'perplexity'; it has n_neighbors"),
        ({"method": "pca", "metric": "manhattan"}, "no metric 'manhattan'; there are cosine, euclidean"),
    ],
)
def test_what_cannot_be_projected_is_said(rows, given, message):
    with pytest.raises(ValueError, match=message):
        project(rows[0], **given)


def test_rows_that_cannot_be_projected():
    with pytest.raises(ValueError, match="at least 4 rows"):
        project(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="not finite"):
        project(torch.full((5, 5), torch.nan))
    with pytest.raises(ValueError, match="all rows are equal"):
        project(torch.ones(5, 5), "pca")


def test_quality_of_a_faithful_map_and_of_noise(rows):
    x, y = rows
    flat = x[:, :2] + torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    true = quality(flat, flat * 3 + 1, metric="euclidean", labels=y)
    assert true["trustworthiness"] == 1 and true["overlap"] == 1
    assert true["class silhouette"] == pytest.approx(true["class silhouette in space"], abs=1e-5)
    assert "neighbours may be read off it" in trust(true)
    noise = quality(x, np.random.default_rng(0).normal(size=(300, 2)), k=10)
    assert noise["overlap"] < 0.1 and noise["trustworthiness"] == pytest.approx(0.5, abs=0.1)
    assert "do not read neighbours off it" in trust(noise)
    assert "class silhouette" not in noise


def test_overlap_is_the_slow_loop(rows):
    x, xy = rows[0][:60].numpy(), np.random.default_rng(0).normal(size=(60, 2))
    shares = []
    for i in range(60):
        near = [np.argsort([np.sum((r[i] - r[j]) ** 2) if j != i else np.inf for j in range(60)])[:5] for r in (x, xy)]
        shares.append(len(set(near[0]) & set(near[1])) / 5)
    assert quality(x, xy, k=5, metric="euclidean")["overlap"] == pytest.approx(np.mean(shares))


def test_along_gap_keeps_the_gap():
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(40, 8, generator=rng) + 3
    b = torch.randn(30, 8, generator=rng) - 1
    frame = along_gap({"image": a, "text": b})
    middle = frame.groupby("modality")["along"].mean()
    from xmodal_lib.evaluate import modality_gap

    assert middle["image"] - middle["text"] == pytest.approx(modality_gap({"image": a, "text": b})["gap"][0])
    assert middle["image"] == pytest.approx(-middle["text"])
    with pytest.raises(ValueError, match="two modalities; 1 are given"):
        along_gap({"image": a})


@pytest.mark.slow  # each compiles or loads for seconds
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_neighbours_survive_and_a_seed_repeats(rows, method, cache):
    x, y = rows
    xy = project(x, method)
    measured = quality(x, xy, labels=y)
    assert measured["trustworthiness"] > 0.93 and measured["class silhouette"] > 0.2
    for file in cache.glob("*.npy"):
        file.unlink()
    assert np.array_equal(project(x, method), xy)
    assert project(x[:6], method).shape == (6, 2)  # fewer rows than neighbours asked for
