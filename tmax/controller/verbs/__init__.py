"""What the controller does for each verb of the control socket: one function a verb, in files by topic."""
