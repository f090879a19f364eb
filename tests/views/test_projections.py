import numpy as np
import pytest
import torch

from xmodal_lib.sources import digits
from xmodal_lib.views import projections
from xmodal_lib.views.map_quality import disparity, placed_quality, quality
from xmodal_lib.views.projections import along_gap, place, project, project_together, turned


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


def test_maps_of_one_start_can_be_compared(rows):
    x = rows[0].numpy()
    turned_x = x @ np.linalg.qr(np.random.default_rng(0).normal(size=(x.shape[1],) * 2))[0]
    noise = np.random.default_rng(1).normal(size=(300, 7))
    maps = project_together({"x": x, "turned": turned_x, "noise": noise}, "pca", metric="euclidean")
    assert np.abs(maps["x"] - maps["turned"]).max() < 1e-3  # the same space, so the same map, point by point
    assert disparity(maps["x"], project(x, "pca", metric="euclidean")) < 1e-8  # turned, not bent
    assert np.allclose(maps["x"].std(0).prod(), project(x, "pca", metric="euclidean").std(0).prod(), rtol=0.5)
    assert disparity(maps["x"], maps["noise"]) > 0.9
    with pytest.raises(ValueError, match="there are a 300, b 299"):
        project_together({"a": x, "b": x[1:]}, "pca")
    with pytest.raises(ValueError, match="at least one; there are none"):
        project_together({})


def test_a_start_is_of_the_same_rows_and_part_of_what_is_kept(rows, cache):
    x = rows[0]
    plain = project(x, "pca")
    mirrored = project(x, "pca", start=plain * [-1, 1])
    assert np.abs(mirrored - plain * [-1, 1]).max() < 1e-3 and len(list(cache.glob("*.npy"))) == 2
    with pytest.raises(ValueError, match=r"a start of shape \(299, 2\) for 300 rows"):
        project(x, "pca", start=plain[1:])


def test_turned_is_a_rigid_motion(rows):
    xy = project(rows[0], "pca")
    angle = 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert np.abs(turned(5 + (xy * [1, -1]) @ turn, xy) - xy).max() < 1e-4
    assert np.abs(turned(3 * xy, xy) - 3 * xy).max() < 1e-3 + 3 * np.abs(xy.mean(0)).max()  # nothing is scaled


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rows_of_a_pca_map_are_placed_where_they_are(rows, metric):
    x = rows[0].numpy()
    xy = turned(project(x, "pca", metric=metric), np.random.default_rng(0).normal(size=(300, 2)))
    assert np.abs(place(x[7:9], x, xy, "pca", metric=metric) - xy[7:9]).max() < 1e-3
    assert place(x[7], x, xy, "pca", metric=metric).shape == (1, 2)


def test_what_cannot_be_placed(rows):
    x = rows[0].numpy()
    xy = project(x, "pca")
    for new, map_of in ((x[:3, :5], xy), (x[:3] * np.nan, xy), (x[:3], xy[1:])):
        with pytest.raises(ValueError, match="do not fit, or are not finite"):
            place(new, x, map_of, "pca")


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


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_new_rows_land_among_their_neighbours_and_maps_start_alike(rows, method):
    x = rows[0].numpy()
    old, new = x[:250], x[250:]
    maps = project_together({"a": old, "again": old}, method)
    assert np.array_equal(maps["a"], maps["again"])
    placed = place(new, old, maps["a"], method)
    assert np.array_equal(placed, place(new, old, maps["a"], method))
    measured = placed_quality(new, placed, old, maps["a"])
    by_chance = placed_quality(new, placed[::-1], old, maps["a"])
    assert measured["trustworthiness"] > 0.9 > by_chance["trustworthiness"] + 0.2
    moved = place(new, old, maps["a"] + 100, method)  # wherever the map lies
    assert placed_quality(new, moved, old, maps["a"] + 100)["trustworthiness"] > 0.9
