"""The control socket between the controller and its clients: protocol, server and client."""
