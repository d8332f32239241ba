"""Reads one TOML file into one frozen model; knows no servers, and keeps connection strings as they are written."""

from replcheck.config.files import find_file, load, lookup_places
from replcheck.config.model import Configuration, Node

__all__ = ["Configuration", "Node", "find_file", "load", "lookup_places"]
