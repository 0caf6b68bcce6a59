"""The parts that every process shares; operator and gateway import nothing else of the pipeline."""
