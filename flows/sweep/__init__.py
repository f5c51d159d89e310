"""Trying settings: which ones, by Optuna, trial by trial on any engine, and what is shown of it."""
