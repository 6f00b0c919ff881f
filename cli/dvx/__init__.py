"""`dvx`, the command line of deltavcs: reads argv, the environment and the clock; prints; exits."""
