"""Sealwire judged by other people's tools: ``make audit``."""
