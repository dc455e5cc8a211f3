"""The commands, a file for each group. Each imports what it needs when it runs, so that `--help` is quick."""
