"""What happens beside the steps: records, the progress bar, and stopping safely on a signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from codetune import console, signals
from codetune.training.checkpoints import checkpoint_dir

# How Transformers spells them, and how they are registered: key, unit, direction.
METRICS = {
    "loss": ("train_loss", "nats/token", "lower"),
    "eval_loss": ("eval_loss", "nats/token", "lower"),
    "learning_rate": ("learning_rate", "1/step", "none"),
    "grad_norm": ("grad_norm", "1", "none"),
}
# The base before any step: no result of the training, so never its best.
BASE = ("base_eval_loss", "nats/token", "lower")


def curves(history: Iterable[Mapping[str, float]]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each metric in a trainer's history, which survives a resume."""
    found: dict[str, list[tuple[int, float]]] = {key: [] for key, _, _ in METRICS.values()}
    for logged in history:
        for name, (key, _, _) in METRICS.items():
            if name in logged:
                found[key].append((int(logged["step"]), float(logged[name])))
    return found


class MetricLog(Protocol):
    """The part of a run record that training needs."""

    def define(self, key: str, unit: str, direction: str, version: int = 1) -> None:
        """Registers a metric once."""

    def metric(self, key: str, value: float, step: int = 0) -> None:
        """Records one value."""

    def output(self, path: Path | str, kind: str = "") -> None:
        """Records what was made."""


class Recorder(TrainerCallback):
    """Every logged value goes to the run log and to TensorBoard, every checkpoint to the run log.

    `step_seconds` is the time spent in training steps, without evaluation and checkpoints.
    """

    def __init__(self, log: MetricLog, tensorboard_dir: Path) -> None:
        self._log, self._dir = log, tensorboard_dir
        self._writer: Any = None
        self.step_seconds, self._step_began = 0.0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Opens the TensorBoard file; steps after the resumed one replace older ones.

        A run that goes on has what was logged before it, too: its curves begin at the beginning.
        """
        from torch.utils.tensorboard import SummaryWriter

        for key, unit, direction in (*METRICS.values(), BASE):
            self._log.define(key, unit, direction)
        for logged in state.log_history:
            self._record(logged, int(logged["step"]))
        make: Any = SummaryWriter
        self._writer = make(str(self._dir), purge_step=state.global_step + 1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Records what was logged at this step."""
        self._record(logs or {}, state.global_step)
        for name, (key, _, _) in METRICS.items():
            if name in (logs or {}) and self._writer is not None:
                self._writer.add_scalar(key, float(logs[name]), state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the clock."""
        self._step_began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops the clock."""
        self.step_seconds += time.monotonic() - self._step_began

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Records the checkpoint, by which a run that goes on from it is traced back to here."""
        self._log.output(checkpoint_dir(Path(args.output_dir), state.global_step), "checkpoint")

    def _record(self, logged: Mapping[str, float], step: int) -> None:
        for name, (key, _, _) in METRICS.items():
            if name in logged:
                of_base = name == "eval_loss" and step == 0
                self._log.metric(BASE[0] if of_base else key, float(logged[name]), step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Closes the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()


class Bar(TrainerCallback):
    """Moves a progress bar by one per optimizer step, with a line at each evaluation."""

    def __init__(self, bar: console.Progress) -> None:
        self._bar, self._started = bar, time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Steps done before a resume count as done."""
        self._bar.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One step done."""
        self._bar.advance()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Says the eval loss."""
        spent = time.monotonic() - self._started
        loss = (metrics or {}).get("eval_loss", float("nan"))
        console.say(f"step {state.global_step}: eval loss {loss:.4f} after {spent:.0f} s")


class SafeStop(TrainerCallback):
    """Ctrl-C, SIGTERM and a lost terminal end training after the current step, with a checkpoint.

    `signalled` is the signal's number afterwards, or None. A second signal ends at once.
    """

    def __init__(self) -> None:
        self.signalled: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes the signals over."""
        for number in signals.NUMBERS:
            if signal.getsignal(number) != signal.SIG_IGN:  # `nohup` means it
                self._before[number] = signal.signal(number, self._note)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Saves and stops when a signal came during the step."""
        if self.signalled is not None:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.signalled is not None:
            if number == signal.SIGHUP:  # it may come from the terminal and from a pipeline
                return
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
            return
        self.signalled = number
        console.say("stopping after this step, with a checkpoint (again: stop at once)")
