"""Why a row has no tokens."""


class RowDropped(Exception):
    """A row that cannot be trained or prompted; `reason` is the slug it is counted under."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
