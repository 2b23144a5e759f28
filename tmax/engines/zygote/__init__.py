"""Workers forked from one process that has imported everything; used by every engine whose workers are processes of this machine."""
