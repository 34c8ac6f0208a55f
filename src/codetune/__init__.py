"""CodeTune: assistant logs and repositories in, a measured local coding model out."""

__version__ = "0.1.0"
