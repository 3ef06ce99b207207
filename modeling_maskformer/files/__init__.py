"""Files and names that a user gives: read strictly, written whole, looked for here or on the Hub."""
