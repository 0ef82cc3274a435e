from ._cosine import Cosine as Cosine
