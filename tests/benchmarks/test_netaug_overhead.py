from __future__ import annotations

import json

from benchmarks import netaug_overhead


def test_both_methods_are_measured_on_both_pipelines(monkeypatch, capsys):
    monkeypatch.setattr(netaug_overhead, "RESOLUTION", 32)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    options = ["--images", "16", "--batch-size", "8", "--epochs", "1", "--jpeg-width", "64", "--json"]
    assert netaug_overhead.main(options) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [found["pipeline"] for found in printed["pipelines"]] == ["memory", "webdataset"]
    for found in printed["pipelines"]:
        assert found["netaug"]["cpu_seconds"] > 0
        assert found["ratio"] == found["netaug"]["seconds"] / found["plain"]["seconds"]
