"""What a process settles with JAX and the system: compiled programs kept and counted, memory."""
