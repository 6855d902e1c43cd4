"""A click group that answers a mistyped command with the nearest one."""

from __future__ import annotations

from pathlib import Path

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
            names = self.list_commands(ctx)
            fix = suggestion(name, names)
            if ctx.parent is not None and Path(name).exists():  # `edgekit bundle x.edgekit`: what to do with it?
                fix = f"Say what to do with it: {ctx.command_path} {'|'.join(sorted(names))} {name}"
            raise UsageError(f"'{ctx.command_path}' has no command '{name}'", fix=fix)
        return super().resolve_command(ctx, args)
