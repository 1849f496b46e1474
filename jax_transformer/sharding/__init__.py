"""Where arrays live: the mesh, and the rules from logical to mesh axes."""
