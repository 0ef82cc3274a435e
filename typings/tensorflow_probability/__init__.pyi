from . import substrates as substrates
