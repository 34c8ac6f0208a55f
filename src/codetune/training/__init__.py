"""Training: the recipe, the token tables, the trainer, and checkpoints that survive anything."""
