"""What keeps months of unattended nights healthy: dead runs, old runs, and the checks of `trainserve doctor`."""
