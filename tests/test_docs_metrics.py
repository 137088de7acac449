"""The page of metrics names every measurement that results hold, and no protocol that they do not."""

import re

from doc_pages import named, read, rows, section

from dvgen.evaluation.frechet import frechet_key
from dvgen.evaluation.nll import LikelihoodProtocol
from dvgen.evaluation.reconstruction import psnr_key, ssim_key
from dvgen.evaluation.sounds import snr_key
from dvgen.interfaces.features import Features

METRICS = read("docs/metrics.md")


def test_every_measurement_of_the_results_has_its_place():
    """Those that the schema's page lists, in a heading or set as code under one."""
    listed = [row[1] for row in rows(section(read("docs/experiments.md"), "results.json")) if row[0].startswith(("a ", "of"))]
    names = {name for cell in listed for name in re.findall(r"`([a-z_0-9]+(?:/\w+)?)`", cell)}
    assert len(names) > 30
    assert names - named(METRICS) == set()


def test_directions_are_those_of_the_keys():
    """What the page says of the measures of reconstructions."""
    keys = {"psnr": psnr_key("", ""), "ssim": ssim_key("", ""), "snr": snr_key("", "")}
    for name, key in keys.items():
        assert key.higher_is_better
        assert "Higher is better" in section(METRICS, f"`{name}`")


def test_protocols_hold_what_the_page_says():
    class Space(Features):
        dim, members, label, weights_hash = 2, 1, "space:v1", "0"

        def forward(self, signals):
            raise NotImplementedError

    told = {row[0]: row[1] for row in rows(section(METRICS, "Protocols"))}
    likelihood = dict(LikelihoodProtocol(codes="c", split="test").key("nats/code").protocol)
    assert set(likelihood) == {"codes", "split", "conditioning", "level", "likelihood"}
    assert all(word in told["likelihoods"] for word in ("codes", "split", "conditioning", "level", "exact"))
    distance = dict(frechet_key(Space(), "r", (3, 4), {}).protocol)
    words = {"features", "weights", "networks", "rounding", "estimator", "reference", "n reference", "n measured"}
    assert set(distance) == words
    assert all(word in told["distances"] for word in words - {"n reference", "n measured"})
    assert "sizes of both sets" in told["distances"]
