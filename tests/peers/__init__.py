"""Other people's engines behind our interfaces: to compare with, and to find out whose bug it is."""
