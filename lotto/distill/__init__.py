"""Small sets of images that stand in for a large one, how they are made, and what they are worth."""
