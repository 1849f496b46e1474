"""Modules: parameters and wiring around the pure functions of ``ops``."""
