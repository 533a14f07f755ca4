"""Tables, engines and migrations. SQL is the only truth; every index can be rebuilt from it."""
