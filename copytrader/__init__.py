"""Copies the orders of one leader account at Dhan into follower accounts."""

__version__ = "0.1.0"
