"""Process-wide settings of JAX and the C library: compilation cache, compile count, memory."""
