from ._pallas import Pallas as Pallas
