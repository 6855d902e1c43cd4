"""A click group that answers a mistyped command with the nearest one."""

from __future__ import annotations

import click

from ..errors import UsageError, suggestion


class Group(click.Group):
    """As click's, with edgekit's words for a command that does not exist."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` starts with.

        Raises:
            UsageError: there is none of that name (with the nearest).
        """
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            raise UsageError(
                f"'{ctx.command_path}' has no command '{name}'", fix=suggestion(name, self.list_commands(ctx))
            )
        return super().resolve_command(ctx, args)
