"""Linear attention: one folder, the readable definition beside the recurrent and the chunked form."""
