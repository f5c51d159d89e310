"""Kinds of sources beside a folder of folders, and what the settings make of them."""
