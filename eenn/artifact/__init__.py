"""What travels from a training to the field: the artifact and its manifest."""
