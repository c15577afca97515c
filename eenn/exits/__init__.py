"""Who leaves where: exit policies, their decisions, head sets."""
