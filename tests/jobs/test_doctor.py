"""What `ldnn doctor` says of a CUDA device, also where there is none."""

import pytest
import torch

from jobs import doctor


def test_without_a_device_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = doctor._torch()
    assert (found.state, found.words) == ("ok", "cpu; CUDA: no device, which small networks do not need")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA does work here")
def test_a_device_that_does_not_work_is_bad(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = doctor._torch()
    assert found.state == "bad"
    assert "CUDA does not work here" in found.words
    assert found.words.endswith("--set resources.device=cpu does")


@pytest.mark.parametrize(("failure", "state"), [(None, "ok"), ("RuntimeError: no Triton", "note")])
def test_it_says_which_path_cuda_takes_and_why(failure, state, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "toy")
    monkeypatch.setattr("ldnn_core.accelerator.CUDA.failure", failure)
    found = doctor._cuda(torch.device("cpu"))
    path = "compiled" if failure is None else "eager: RuntimeError: no Triton"
    assert found.state == state
    use = "--set resources.device=cuda --set resources.gpus_per_trial=0.25 uses it"
    assert found.words == f"toy: {use}; look-ups and updates: {path}"


def test_a_device_that_gives_other_numbers_is_bad(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "toy")
    gradients = [torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1])]
    monkeypatch.setattr(doctor, "_meta_gradient", lambda device: gradients.pop())
    found = doctor._cuda(torch.device("cpu"))
    assert (found.state, "toy gives another meta-gradient than the CPU" in found.words) == ("bad", True)
