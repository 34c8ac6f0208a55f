"""A run at work: what a stage writes into, and how it is opened."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codetune import artefact, console
from codetune.artefact import Input, Origin
from codetune.errors import UserError
from codetune.runlog import capture, ends, events, process
from codetune.runlog.content import content_of
from codetune.runlog.flusher import Flusher
from codetune.runlog.meaning import Direction
from codetune.runlog.store.database import locate
from codetune.runlog.store.revision import prepare

if TYPE_CHECKING:
    from codetune.config import Config
    from codetune.machine import Load

End = Literal["finished", "up to date", "failed", "refused", "interrupted"]
TASK, PROJECT = "language-model", "default"
_LONGEST_REASON = 300


class Run:
    """One run of a stage. Every call appends one record to the run's journal.

    Safe to call from several threads. Raises UserError when the disk does not take a record.
    Without a journal (see `disabled`) nothing is written.
    """

    def __init__(
        self, run_id: str, name: str, stage: str, version: int, root: Path, *, journal: Path | None
    ) -> None:
        self.id, self.name, self.stage, self.version = run_id, name, stage, version
        self._root, self._lock = root.absolute(), threading.Lock()
        self._journal = None if journal is None else artefact.Journal(journal)
        self._flusher: Flusher | None = None
        self._versions: dict[str, int] = {}
        self._not_finite: set[str] = set()

    @property
    def console_log(self) -> Path:
        """Where what the run says is kept, from the project's folder."""
        return events.console_path(Path(), self.id)

    def origin(self, config: Config, inputs: Iterable[Input] = ()) -> Origin:
        """What decides the bytes of this stage's artefacts."""
        from codetune.config import config_sha256

        return Origin(self.stage, self.version, config_sha256(config), tuple(inputs))

    def input(self, source: Path | str | Input, role: str = "") -> Input:
        """Records what the run reads, and returns it with its hash.

        A folder must be an artefact with a manifest; for others pass an `Input`.
        """
        found = source if isinstance(source, Input) else _as_input(Path(source))
        self._write_file("input", found.path, found.sha256, role)
        return found

    def source(
        self, name: str, place: Path, sha256: str | None = None, role: str | None = None
    ) -> Input:
        """Records what lies at `place` as read, and returns it under the `name` that manifests
        give it, so that equal inputs make equal bytes wherever they lie.

        `sha256` is its fingerprint, where the hash of a file is not what decides. Raises UserError
        when nothing lies there.
        """
        found = content_of(place, sha256)
        self._write_file("input", found.path, found.sha256, name if role is None else role)
        return Input(name, sha256 or found.sha256)

    def outputs(self, made: Mapping[Path, str]) -> None:
        """Records several outputs: each path with its kind."""
        for path, kind in made.items():
            self.output(path, kind)

    def output(self, path: Path | str, kind: str = "") -> None:
        """Records what the run made, once it is complete: a file, or a folder."""
        self._write_file("output", str(path), _as_output(Path(path)), kind)

    def define(
        self, key: str, unit: str = "", direction: Direction = "none", version: int = 1
    ) -> None:
        """Says what a metric means; a changed meaning takes a new `version`."""
        self._versions[key] = version
        self._write("define", key=key, unit=unit, direction=direction, version=version)

    def metric(self, key: str, value: float, step: int = 0) -> None:
        """Records one point. NaN and infinities become null, with an event the first time.

        A metric that was not defined has the meaning that its name tells; see `meaning`.
        """
        number, version = events.finite(value), self._versions.get(key, 1)
        self._write("metric", key=key, version=version, step=int(step), value=number)
        if number is None and key not in self._not_finite:
            self._not_finite.add(key)
            self.event("not_finite", key=key, step=int(step))

    def event(self, kind: str, **fields: str | int | float | bool | None) -> None:
        """Records something that happened; numbers, ids and slugs, no sample texts."""
        kept = {k: events.finite(v) if isinstance(v, float) else v for k, v in fields.items()}
        self._write("event", name=kind, fields=kept)

    def tag(self, text: str) -> None:
        """Marks the run with a word to find it by."""
        self._write("tag", text=console.clean(text))

    def finish(self, status: End, reason: str = "") -> None:
        """Ends the run; later calls do nothing. Never raises: what it cannot write it warns of."""
        if self._journal is None:
            return
        said = console.clean(" ".join(reason.split()))[:_LONGEST_REASON]
        try:
            self._write("finished", status=status, reason=said)
            self._journal.close()
        except (UserError, OSError) as problem:
            console.warn(f"the end of run {self.name} could not be recorded: {problem}")
        self._journal = None
        if self._flusher is not None:
            self._flusher.stop(flush=status != "up to date")

    def begin(self, flusher: Flusher, started: Mapping[str, Any]) -> None:
        """Records the start, and starts the background thread."""
        self._write("started", **started)
        self._flusher = flusher
        flusher.start()

    def sample(self, load: Load) -> None:
        """Records how busy the process and its GPUs are; what is not known is left out."""
        known = {key: value for key, value in asdict(load).items() if value is not None}
        self._write("system", **known)

    def _write_file(self, kind: str, path: str, sha256: str | None, role: str) -> None:
        place = Path(path)
        inside = place.is_absolute() and place.is_relative_to(self._root)
        shown = place.relative_to(self._root).as_posix() if inside else path
        self._write(kind, role=role, path=shown, sha256=sha256)

    def _write(self, kind: str, **fields: Any) -> None:
        with self._lock:
            if self._journal is not None:
                self._journal.append({"ts": process.now_ms(), "kind": kind, **fields})
        if self._flusher is not None:
            self._flusher.wrote()


def open_run(  # noqa: PLR0913 - everything that describes a run, each by its name
    root: Path,
    *,
    stage: str,
    config: Mapping[str, Any],
    name: str | None = None,
    differences: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    parent: str | None = None,
    run_id: str | None = None,
    seed: int | None = None,
    version: int = 1,
    database_url: str | None = None,
    variables: Mapping[str, str] | None = None,
    texts: Collection[str] = (),
    task: str = TASK,
    project: str = PROJECT,
) -> Run:
    """Starts a run of the project at `root`; with `run_id` one that may have been created ahead.

    `differences` is `{key: {default, value}}` of the knobs that are not at their default, and
    `variables` the process environment, of which only `capture.KEPT_VARIABLES` are kept. Of the
    knobs named in `texts` only the length of the value is kept.
    Raises UserError when the database cannot be used, or the run was started before.
    """
    place = locate(root, database_url)
    prepare(place)
    run_id = None if run_id is None else _as_ulid(run_id)
    if run_id is None or not events.journal_path(root, run_id).exists():
        run_id = create_run(
            root, stage=stage, name=name, parent=parent, run_id=run_id, task=task, project=project
        )
    journal = events.journal_path(root, run_id)
    created = _waiting(journal, stage)
    code, environment = capture.code_version(), capture.environment(variables)
    capture.keep_patch(root, code)
    run = Run(run_id, created["name"], stage, version, root, journal=journal)
    started = {
        "version": version,
        "seed": seed,
        "argv": events.shown_argv(argv, texts),
        "params": events.flat_params(config, differences or {}, texts),
        "process": asdict(process.current()),
        "commit": code.commit,
        "diff_sha256": code.diff_sha256,
        "environment_hash": capture.environment_hash(environment),
        "environment": environment,
    }
    visible = (variables or {}).get("CUDA_VISIBLE_DEVICES")
    run.begin(Flusher(place, root, journal, run.sample, visible), started)
    return run


def create_run(  # noqa: PLR0913 - what is known of a run before it starts, each by its name
    root: Path,
    *,
    stage: str,
    name: str | None = None,
    parent: str | None = None,
    run_id: str | None = None,
    task: str = TASK,
    project: str = PROJECT,
) -> str:
    """Creates a run that is started later, by `open_run` with the id that this returns.

    Raises UserError when `run_id` is given and not a ULID.
    """
    from ulid import ULID

    own_id = str(ULID()) if run_id is None else _as_ulid(run_id)
    journal = artefact.Journal(events.journal_path(root, own_id))
    shown = console.clean(name) if name else f"{stage}-{own_id[-5:].lower()}"
    told = {"stage": stage, "task": task, "project": project, "parent": parent}
    journal.append({"ts": process.now_ms(), "kind": "created", "id": own_id, "name": shown, **told})
    journal.close()
    return own_id


def _as_ulid(run_id: str) -> str:
    """The id as it is spelled in paths; UserError for what is none, such as a path."""
    from ulid import ULID

    try:
        return str(ULID.from_str(run_id))
    except ValueError:
        raise UserError(f"--run_id: {run_id!r} is not a run id (a ULID)") from None


def disabled(stage: str = "none", version: int = 1) -> Run:
    """A run that records nothing: for dry runs and tests."""
    return Run("", "", stage, version, Path(), journal=None)


def _waiting(journal: Path, stage: str) -> dict[str, Any]:
    """The beginning of a run that was created and not yet started."""
    own = list(islice(ends.own(journal), 2))
    if len(own) > 1:
        raise UserError(f"--run_id: run {journal.parent.name} was started before; leave it out")
    if not own or own[0].kind != "created":
        raise UserError(f"--run_id: run {journal.parent.name} has no beginning; leave it out")
    made_for = own[0].fields.get("stage")
    if made_for != stage:
        raise UserError(f"--run_id: run {journal.parent.name} is for {made_for}, not for {stage}")
    return own[0].fields


def _as_input(path: Path) -> Input:
    if not path.is_dir():
        return artefact.input_file(path)
    artefact.read_manifest(path)  # says what is wrong when there is none
    return Input(str(path), artefact.sha256_file(artefact.manifest_path(path)))


def _as_output(path: Path) -> str | None:
    """The hash of what lies at `path`; of a folder its manifest's, or None without one."""
    place = artefact.manifest_path(path) if path.is_dir() else path
    return artefact.sha256_file(place) if place.is_file() else None
