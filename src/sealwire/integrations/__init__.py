"""Integrations with other systems: a module and an extra (``sealwire[NAME]``) for each."""
