"""What stands behind the subcommands of `mbdet`."""
