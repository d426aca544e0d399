"""Where shared state lives: one interface, so that one worker (a dict), several (lmdb) and several machines (redis) look alike."""
