"""Bundles -> HTTP. No torch, no prefect.

BentoML counts its users over the network unless told otherwise, and reads the choice when it is first
asked; so the default is chosen here, before any of our modules imports it. Both variables keep a user's own value.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
