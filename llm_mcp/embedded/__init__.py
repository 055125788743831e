"""What comes along so that nothing has to be installed or started by hand: a Postgres and a small model."""
