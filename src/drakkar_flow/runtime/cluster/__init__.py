"""The processes of a cluster: their rendezvous, their connections while they run, and the words they exchange."""
