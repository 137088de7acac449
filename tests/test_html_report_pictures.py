"""The report's pictures: maps and counts of codes, and pictures that fit into a page."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_results import drawn, row

from dvgen.errors import IntegrityError
from dvgen.report.code_maps import arrays, frequencies, heat_maps
from dvgen.report.marks import marks_of
from dvgen.report.pictures import VIRIDIS, embedded, find, heat_map


def marked(*rows):
    return list(zip(rows, marks_of(rows), strict=True))


def written(folder: Path, uri: str) -> Path:
    place = folder / "decoded.png"
    place.write_bytes(base64.b64decode(uri.removeprefix("data:image/png;base64,")))
    return place


def test_heat_maps_share_one_scale_over_priors_and_average_over_repeats(tmp_path):
    rows = [row("gpt", drawn(0, seeds=2)), row("pixelsnail", drawn(1, seeds=2))]
    grids = {("gpt", 0): np.full((2, 2), 1.0), ("gpt", 1): np.full((2, 2), 3.0)}
    for one in rows:
        for seed, repeat in enumerate(one["repeats"]):
            place = tmp_path / repeat["folder"] / "assessment"
            place.mkdir(parents=True)
            np.savez(place / "per_position.npz", level_0=grids.get((one["prior"], seed), np.array([[0.5, 1.0], [4.5, 1.0]])))
    (found,) = heat_maps(tmp_path, marked(*rows), [{"name": "codes"}])
    assert (found.low, found.high) == (0.5, 4.5)
    assert [text for _, _, text in found.maps] == [
        "2.00 to 2.00 nats, mean 2.00; highest at row 1, column 1",
        "0.50 to 4.50 nats, mean 1.75; highest at row 2, column 1",
    ]


def test_colours_of_a_heat_map_run_from_the_first_to_the_last(tmp_path):
    picture = heat_map(np.array([[1.0, 2.0, 3.0]]), 1.0, 3.0)
    with Image.open(written(tmp_path, picture.uri)) as image:
        assert [image.getpixel((x, 0)) for x in range(3)] == [VIRIDIS[0], VIRIDIS[len(VIRIDIS) // 2], VIRIDIS[-1]]


def test_frequencies_are_shares_of_codes_by_rank():
    """Against counting by hand; masked positions are not codes."""
    codes = np.array([[3, 3, 3, 7], [7, 1, -1, -1]])
    assert frequencies(codes).tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6])


def test_damaged_arrays_are_refused_and_missing_ones_are_none(tmp_path):
    assert arrays(tmp_path / "nothing.npz") == {}
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and then nothing of use")
    with pytest.raises(IntegrityError, match="damaged"):
        arrays(tmp_path / "damaged.npz")


def test_a_picture_is_kept_where_it_fits_and_made_smaller_where_it_does_not(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    whole = embedded(tmp_path / "noise.png", 10**6)
    assert not whole.reduced
    with Image.open(written(tmp_path, whole.uri)) as image:
        assert np.array_equal(np.asarray(image), pixels)
    small = embedded(tmp_path / "noise.png", 30_000)
    assert small.reduced
    assert len(small.uri) < 30_100
    assert (small.width, small.height) == (300, 200)
    (tmp_path / "text.png").write_text("no picture")
    assert embedded(tmp_path / "text.png", 10**6) is None


def test_sounds_are_shown_by_their_spectrograms(tmp_path):
    assert find(tmp_path / "samples") is None
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "spectrograms.png").touch()
    assert find(tmp_path / "samples") == tmp_path / "samples" / "spectrograms.png"
    (tmp_path / "samples.png").touch()
    assert find(tmp_path / "samples") == tmp_path / "samples.png"
