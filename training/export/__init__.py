"""From a fitted pipeline to a graph, and the proof that both answer alike."""
