"""Files that travel from a training to the field: the artifact, its manifest, the deployment."""
