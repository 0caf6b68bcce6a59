"""The parts that stages share: context, progress, played arms, held-out tasks."""
