"""The integration scenario: three workers, six targets, failures in the middle, and an audit of every record."""
