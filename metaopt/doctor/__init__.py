from ._diagnosis import Check as Check, Diagnosis as Diagnosis, diagnose as diagnose
