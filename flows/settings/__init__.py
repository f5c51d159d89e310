"""The settings of an experiment as people write them: on the command line, in YAML, in a request."""
