"""The command line: `trainserve = flows.cli:main`. Nothing heavy is imported before it is needed."""


def main() -> None:
    """The console script. Exit status 0, 1 (failed), 2 (the input is wrong), 130 (Ctrl-C), 143 (SIGTERM)."""
    from flows.stopping import soon_over

    with soon_over():
        from flows.cli.app import main as run

        run()
