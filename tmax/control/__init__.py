"""The one socket between the controller and everybody who asks it something."""
