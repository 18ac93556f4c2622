"""Only until tests/contract/laws.py takes ``run_elsewhere`` from where it is now."""

from tests.interop.networks import run_elsewhere

__all__ = ["run_elsewhere"]
