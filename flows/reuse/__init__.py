"""Stages that are not made twice: same pictures, same settings, same result, whichever run made it."""
