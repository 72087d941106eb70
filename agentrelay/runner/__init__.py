"""Runner: the daemon that runs agents on one machine, and the keeper that holds their terminals."""
