"""How programs are attached to hooks and called: links, dispatchers, one file per hook."""
