"""What pytest does for every test and every doctest; setup.cfg loads it by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings

# With this cuBLAS repeats itself to the bit. It is read when CUDA starts; the processes that tests start get it, too.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# How long an example takes depends on what else the machine does.
settings.register_profile("torchneupy", deadline=None, print_blob=True)
# For a run that may take long: tests that name no number of examples of their own get three times as many.
settings.register_profile("full", parent=settings.get_profile("torchneupy"), max_examples=300)
IS_FULL = os.environ.get("TORCHNEUPY_FULL") == "1"
settings.load_profile("full" if IS_FULL else "torchneupy")


@pytest.fixture(autouse=True)
def fresh_names() -> None:
    """Number the automatic names of layers from 1 again, so that no test depends on those before it."""
    from torchneupy.layers.naming import reset_names  # not above: coverage must see the package being imported

    reset_names()


@contextmanager
def exact_cuda() -> Iterator[None]:
    """Let CUDA compute in all bits of float32, for comparisons with the CPU, and by kernels that repeat themselves.

    By default convolutions and recurrent layers are in TF32 on newer GPUs, which has 10 bits of a fraction's 23.
    """
    import torch  # not above, as below

    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cublas.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32, cublas.allow_tf32, cudnn.deterministic = False, False, True
    try:
        yield
    finally:
        cudnn.allow_tf32, cublas.allow_tf32, cudnn.deterministic = before


@pytest.fixture(autouse=True)
def exact_where_cuda_is_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """For every test that is marked ``cuda``, by the fixture ``device`` or by hand."""
    if request.node.get_closest_marker("cuda") is None:
        yield
    else:
        with exact_cuda():
            yield


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    """The device of a test that runs on the CPU and, where it is there, on CUDA."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What two processes have found that torchrun started, once for all the files of tests/interop that ask."""
    from tests.interop.torchrun import run_processes

    return run_processes(tmp_path_factory.mktemp("processes"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs CUDA where there is none, and what takes long unless all is asked for."""
    reasons = {"full": "takes long: it runs by tests/full"} if not IS_FULL else {}
    if any(item.get_closest_marker("cuda") for item in items):
        import torch

        if not torch.cuda.is_available():
            reasons["cuda"] = "needs CUDA"
    for item in items:
        for mark, reason in reasons.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
