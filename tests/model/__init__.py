"""A model of the handshake and the first frames for the model checker Spin: ``make model``."""
