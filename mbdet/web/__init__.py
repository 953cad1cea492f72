"""A page that runs an exported model in the browser: its files, how they are put together, and how they are served."""
