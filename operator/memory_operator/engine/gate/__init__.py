"""From what a Provider says to the space that serves it, never without consent."""
