"""Poses as pictures and films, and live in a viewer."""
