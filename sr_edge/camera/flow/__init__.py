"""Flow of frames between threads: queues, drop policies, a fair lock, retries."""
