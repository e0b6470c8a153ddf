"""Analog codes: real [n, k] codes with generator [I | P], and how far one coordinate of a codeword can stand out."""

from jaxlip.mheight.exact import Certificate, certificate, heights, ratio

__all__ = ["Certificate", "certificate", "heights", "ratio"]
