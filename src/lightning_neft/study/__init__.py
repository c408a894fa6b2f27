"""Paired arms of one recipe that differ in the noise alone: plan, queue, workers, comparison."""
