"""The corpus between the data stages and the trainer: intake, deduplication, split, proof."""
