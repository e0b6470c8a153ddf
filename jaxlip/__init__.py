"""jaxlip: landmark sequences in JAX. From face videos to landmarks, from landmarks to words, sentences and affect.

Dimension letters, used as suffixes of array names (`logits_BTK`) and in every annotation:

    B batch   T frame   V landmark (graph node)   C coordinate (x, y, z)   D feature   H hidden
    K class   N label or example   U user   E edge   F = B * T, frames of all clips in one axis

Masks are bool, True = real, and named for their axes (`frames_BT`).
"""

__version__ = "0.1.0"
