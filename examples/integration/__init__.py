"""The integration scenario: three workers, six targets, failures in the middle, and books that must balance."""
