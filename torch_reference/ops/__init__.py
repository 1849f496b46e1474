"""Pure functions of tensors: no parameters, no config."""
