"""What a solution has to fulfill: equations inside, conditions on the boundary, data."""
