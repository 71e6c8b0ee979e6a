"""What is measured: each module is one process under test, told what to do by environment variables."""
