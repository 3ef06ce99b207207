"""The command `maskformer`: each subcommand is a file with a `main`, which scripts/ call too."""
