"""What every reader yields: one conversation in memory, whatever tool wrote the log.

A session is a list of segments (no step of one saw the other), a segment a list of prompts and
steps in order. A step is one message of the assistant with its calls and their results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

PromptKind = Literal["human", "summary", "context"]
ResultStatus = Literal["ok", "failed", "error", "rejected"]


@dataclass(slots=True)
class Call:
    """One tool call; `arguments` holds no nulls."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class Result:
    """What a call gave back.

    "failed": it ran and failed, as tests do; "error": the tool refused; "rejected": the user did.
    """

    text: str
    status: ResultStatus = "ok"


@dataclass(slots=True)
class Prompt:
    """Text the assistant was given: by a person, as a summary of what was cut, or by the tool.

    Only "human" and "summary" open a turn; "context" arrives while the assistant works.
    """

    text: str
    kind: PromptKind = "human"
    timestamp: str = ""


@dataclass(slots=True)
class Step:
    """One message of the assistant. Not empty `masked` (reasons) keeps it from being trained."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    model: str = ""
    masked: set[str] = field(default_factory=set)


Segment = list[Prompt | Step]


@dataclass(slots=True)
class Session:
    """One conversation. Only calls with a result are in it, and every result has its call.

    `first` is the id of its first record: copies of one session differ in it. `provider` is whose
    model answered, where the log tells; `system` and `tools` (JSON schemas) are what the
    conversation brought along, "" and [] for logs that hold neither.
    """

    source: str
    id: str
    agent: str = ""
    project: str = ""
    version: str = ""
    first: str = ""
    segments: list[Segment] = field(default_factory=list)
    provider: str = ""
    system: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)

    def steps(self) -> list[Step]:
        """All steps in order."""
        return [item for part in self.segments for item in part if isinstance(item, Step)]
