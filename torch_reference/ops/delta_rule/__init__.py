"""The gated delta rule: one folder, the recurrence that defines it beside its chunked form and the convolution before it."""
