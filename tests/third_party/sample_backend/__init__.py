from ._sample import CALLS as CALLS, Sample as Sample
