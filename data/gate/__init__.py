"""What is wrong with a data set, and what follows: rules measure, levels decide, a person has the last word.

A rule is one field of `config.GateConfig` and one function of the same name, of a `found.Subject` and its setting:

    def blurred(subject: Subject, setting: Blurred) -> Found | None

It looks at the pictures of `subject.asked` (nobody has dropped them, and no person has said that they are to stay as
they are), and returns what it found: a sentence, and for each picture concerned a `Spot`, which is its row in the
snapshot, a score where there is one, and what a person could do about it. It knows nothing of levels: `judge.look` asks
no rule that is ignored, takes the pictures out where the level is `drop`, refuses where it is `stop`, and writes every
picture that was spotted into the data set's quarantine list. To add one:

1. in `config.py` or `config_looks.py`, a class with `level` (only levels that the rule can carry out), `threshold`
   where there is one (its unit in the description), and a field of `GateConfig`;
2. a function in a file of its subject, such as `copies.py`;
3. its name in the table of `data/validate.py` that fits what it needs: the listing, the files, the decoded pictures,
   who is in which part, or the split that is left. Rules of a table are asked in its order, and each sees what those
   before it have left; what takes long to measure is kept by `remembered.py`;
4. a line in the table of `docs/data.md`, and tests.

What `drop` never does: take away a test picture. A test part without its hard pictures is easier than the world. Only a
person does that, by name, in the quarantine list.
"""
