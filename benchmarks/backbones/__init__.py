"""Backbones: every registered one through training and export, and trained ones compared."""
