"""Small programs that train one network on one folder of JPEGs, each as its library's documentation shows it.

`python -m benchmarks.peers.NAME FOLDER [--epochs 3] [--batch 64] [--stem small]`, from the environment that has the
library. FOLDER holds train/CLASS/*.jpg and val/CLASS/*.jpg of 32 x 32 pixels. The last line on standard output is one
JSON object: of each epoch its pictures, wall seconds and CPU seconds of the training part, and the versions.

What is the same everywhere: ResNet-18 as in `network.py`, batches of 64, float32 unless the settings say otherwise, one
process that also reads the data, no validation in the time. What is each library's own: reading and decoding, which the
others do in every epoch, and this project and the bare loop once, before the clock starts; random crop and flip (none
in the bare loop; timm resizes each crop); the loop with its logging; the optimiser where it has a default; the layout
in memory, for which the form `channels_last` asks where it is not the default.

Those called `budget_NAME` train in all of a library's own way for a time, and test: `budget.py` says how.
"""
