"""The flows as deployments: what they are, how they reach the Prefect server, and the process that keeps them going."""
