"""The task store on disk, and the lock of its controller."""
