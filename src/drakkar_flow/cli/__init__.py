"""The `drakkar-flow` command, one file per subcommand."""
