"""What this machine can run, as plain values."""

import json

import numpy
import torch

from claimwise.lab.doctor import examine


def test_findings_are_plain_and_name_what_there_is(tmp_path, monkeypatch):
    monkeypatch.delenv("CLAIMWISE_DATA", raising=False)
    findings = examine(tmp_path / "not" / "yet" / "runs")
    assert json.loads(json.dumps(findings)) == findings
    assert findings["versions"]["torch"] == torch.__version__
    assert findings["versions"]["numpy"] == numpy.__version__
    assert "core(s) to use" in findings["devices"]["cpu"]
    assert ("cuda:0" in findings["devices"]) == torch.cuda.is_available()
    assert findings["folders"]["runs"].startswith(str(tmp_path / "not" / "yet" / "runs"))
    assert "(writable, " in findings["folders"]["runs"]
    assert findings["folders"]["data"] == "CLAIMWISE_DATA is not set"
    assert "digits" in findings["data"]["at hand"]
    assert findings["extras"]["lab"] == "installed"


def test_a_missing_extra_says_how_to_get_it(tmp_path, monkeypatch):
    from claimwise.lab import doctor

    monkeypatch.setitem(doctor._EXTRAS, "cluster", ("distributed", "not_a_module_at_all"))
    said = examine(tmp_path)["extras"]["cluster"]
    assert "not_a_module_at_all" in said
    assert 'pip install "claimwise[cluster]"' in said
    assert not (tmp_path / "runs").exists()
