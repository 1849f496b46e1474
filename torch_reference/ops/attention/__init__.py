"""Softmax attention: one folder, the readable definition beside any faster form."""
