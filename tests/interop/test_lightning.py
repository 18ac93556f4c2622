"""A Lightning module that trains, stores and loads a network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.interop.loops import EPOCHS, RATE, calm, learn, load, loss_of
from tests.interop.networks import Case, equal_states, every_case

pytest.importorskip("lightning", reason="Lightning is not installed")

pytestmark = [
    # Of Lightning's own code, about torch.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    # Advice: a loader of so few samples needs no processes.
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]


def make_model(case: Case, seed: int = 0) -> Any:
    from lightning import LightningModule

    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = calm(case, seed)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = loss_of(case, self.network, batch)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=RATE)

    return Model()


@every_case
def test_a_network_is_trained_stored_and_loaded(case, device, tmp_path):
    from lightning import Trainer

    model = make_model(case)
    trainer = Trainer(
        accelerator="gpu" if device == "cuda" else device,
        devices=1,
        max_epochs=EPOCHS,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, load(case))
    assert trainer.global_step == EPOCHS * len(load(case))
    expected = learn(case, calm(case), device).cpu()
    equal_states(model.network.cpu(), expected)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    twin = make_model(case, seed=1)
    twin.load_state_dict(torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"])
    equal_states(twin.network, expected)
