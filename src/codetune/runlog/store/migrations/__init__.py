"""The schema's history. Migrations go forward only."""

from typing import NoReturn

from codetune.errors import UserError


def one_way(revision: str, before: str | None) -> NoReturn:
    """Refuses to undo a migration; UserError with the way back."""
    raise UserError(
        f"schema revision {revision} cannot be undone; to go back to {before or 'nothing'}, put "
        "back the copy that was made before the upgrade, or delete the database and run "
        "`./scripts.sh runs reindex` with the version of CodeTune that you want"
    )
