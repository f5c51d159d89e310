"""What a user would pick instead: the same bundle, the same decoding, in another framework as its documents show it."""
