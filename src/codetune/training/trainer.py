"""TRL's SFTTrainer, with what would silently go wrong put right.

- Adapters are trained in fp32: TRL casts them to bf16 for quantised bases while PEFT reloads them
  as fp32, so that resuming would not be exact and fp16 scaling would fail.
- Checkpoints are staged, hashed and renamed; they hold safetensors only, and are verified before
  they are used.
- The loss is computed on trained tokens alone, with a frozen head (see `loss`).
- Evaluation is the mean over trained tokens, not over batches.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from trl.trainer.sft_trainer import SFTTrainer

from codetune import artefact
from codetune.artefact import Origin
from codetune.errors import UserError
from codetune.training.checkpoints import STATE_FILE, checkpoint_dir, prune
from codetune.training.loss import PLAIN_HEADS, frozen_head_nll, labelled_states
from codetune.training.statefile import full_disk_is_told, load_state, save_state


class QLoRATrainer(SFTTrainer):
    """`SFTTrainer` on our own token ids; `origin` ties checkpoints to data, base and recipe.

    `dtype` is the compute type, which checkpoints note so that a resumed run keeps it.
    `tokens_seen` counts the tokens of this process's training steps, padding included.
    """

    # What the library types loosely is always there once training has begun.
    model: Any
    optimizer: Any
    lr_scheduler: Any
    state: Any

    def __init__(
        self, *, origin: Origin, keep_checkpoints: int, dtype: str, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._origin, self._keep, self._dtype = origin, keep_checkpoints, dtype
        self._checkpoints = Path(str(self.args.output_dir))
        self.tokens_seen = 0
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    # ------------------------------------------------------------------ loss

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Summed loss over trained tokens, divided by the tokens of the whole step."""
        if model.training:
            self.tokens_seen += inputs["input_ids"].numel()
        if return_outputs or not self._frozen_head:
            stock: Any = super().compute_loss
            return stock(model, inputs, return_outputs, num_items_in_batch)
        total, count = self._summed_loss(inputs)
        items = count if num_items_in_batch is None else num_items_in_batch
        return total / torch.as_tensor(items, device=total.device).clamp(min=1)

    def _summed_loss(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        base = self.model.get_base_model()
        with self.accelerator.autocast():
            hidden, targets = labelled_states(base.model, inputs)
        with torch.autocast(hidden.device.type, enabled=False):
            total = frozen_head_nll(hidden, base.lm_head.weight, targets)
        return total, torch.as_tensor(targets.numel(), device=total.device)

    @property
    def _frozen_head(self) -> bool:
        base = self.model.get_base_model()
        plain = base.config.model_type in PLAIN_HEADS
        # Bypassing the wrapped forward would bypass gradient reduction between processes too.
        alone: bool = self.accelerator.num_processes == 1
        return plain and alone and not base.lm_head.weight.requires_grad

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """`{eval_loss}`: mean negative log-likelihood per trained token, in nats."""
        if not self._frozen_head:
            found: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
            return found
        was_training = self.model.training
        self.model.eval()
        total = count = 0.0
        with torch.no_grad():
            for inputs in self.get_eval_dataloader(eval_dataset):
                loss, n = self._summed_loss(self._prepare_inputs(inputs))
                total, count = total + loss.item(), count + n.item()
        metrics = {f"{metric_key_prefix}_loss": total / max(count, 1)}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        self.model.train(was_training)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs, and stops the run at once when the loss is no number."""
        super().log(logs, start_time)
        for key in ("loss", "eval_loss", "grad_norm"):
            if key in logs and not math.isfinite(logs[key]):
                raise UserError(
                    f"step {self.state.global_step}: {key} is {logs[key]}; lower --learning_rate, "
                    "or set --dtype float32; the last checkpoint is intact"
                )

    # ------------------------------------------------------------------ checkpoints

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """A new best gets its checkpoint at once, or it could not be loaded at the end."""
        improved: bool = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= improved
        return improved

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        from transformers.trainer_callback import ExportableState

        folder = self._checkpoints
        final = checkpoint_dir(folder, self.state.global_step)
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(
                checkpoint_dir(folder, self.state.best_global_step)
            )
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                _keep_callback_state(self.state.stateful_callbacks, callback)
        about = {"step": self.state.global_step, "dtype": self._dtype}
        staged = artefact.staged_directory(final, self._origin, **about)
        with staged as staging, full_disk_is_told(final):
            self.model.save_pretrained(staging)
            save_state(staging / STATE_FILE, self._loop_state())
            self.state.save_to_json(str(staging / "trainer_state.json"))
        best = self.state.best_model_checkpoint
        prune(folder, self._keep, Path(best) if best else None)

    def _loop_state(self) -> dict[str, Any]:
        scaler = getattr(self.accelerator, "scaler", None)
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.lr_scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_adapter_weights(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_adapter_weights(self.model, Path(str(self.state.best_model_checkpoint)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = load_state(Path(checkpoint) / STATE_FILE)
        self.optimizer.load_state_dict(state["optimizer"])
        self.lr_scheduler.load_state_dict(state["scheduler"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        scaler = getattr(self.accelerator, "scaler", None)
        if checkpoint is not None and scaler is not None:
            kept = load_state(Path(checkpoint) / STATE_FILE)["scaler"]
            if kept is not None:
                scaler.load_state_dict(kept)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = load_state(Path(checkpoint) / STATE_FILE)
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available() and state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def load_adapter_weights(model: Any, checkpoint: Path) -> None:
    """Puts a checkpoint's adapter into `model`, exactly; UserError when any weight is missing."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    weights = load_file(checkpoint / "adapter_model.safetensors")
    result: Any = set_peft_model_state_dict(model, weights)
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        wrong: Sequence[str] = missing or result.unexpected_keys
        raise UserError(f"{checkpoint}: does not fit this model ({wrong[0]})")


def _keep_callback_state(states: dict[str, Any], callback: Any) -> None:
    """Files a callback's state where Transformers looks for it when resuming."""
    name = type(callback).__name__
    if isinstance(states.get(name), list):
        states[name].append(callback.state())
    else:
        states[name] = callback.state()
