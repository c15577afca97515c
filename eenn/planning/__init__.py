"""What any choice of branches, threshold and payload would take."""
