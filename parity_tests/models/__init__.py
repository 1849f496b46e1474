"""Laws of whole models."""
