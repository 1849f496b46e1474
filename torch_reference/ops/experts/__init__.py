"""Mixtures of experts: one folder, the readable definition beside any faster form."""
