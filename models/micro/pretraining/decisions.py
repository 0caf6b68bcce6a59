"""What is measured: how often each kind of decision is right, on rooms that were not trained on.

One run of a demonstration through the model with the expert's past (teacher forcing) gives every decision of a game at
once. Watch these figures and not the loss: the loss is all but flat while a look-up is being found.
"""

from collections import Counter
from collections.abc import Sequence as Sequences
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM

from .demonstrations import Sequence, game
from .search import Choice


@dataclass(frozen=True)
class Accuracy:
    """Share of right decisions among ``count``; a start is right when it is a kind of the room."""

    right: int
    count: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.right / self.count


def held_out_games(count: int, *, hinted: float = 0.5) -> list[Sequence]:
    """Demonstrations of full size that no run trains on."""
    return [game(f"held-out/{i}", hinted=hinted) for i in range(count)]


def pad(sequences: Sequences[Sequence]) -> torch.Tensor:
    """Token ids as [sequences, longest], padded on the right with 0."""
    ids = torch.zeros(len(sequences), max(len(s.ids) for s in sequences), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
    return ids


@torch.inference_mode()
def decisions(model: LlamaForCausalLM, sequences: Sequences[Sequence], *, batch: int = 16) -> dict[Choice, Accuracy]:
    """Accuracy of the most likely token for every kind of decision in the sequences."""
    right: Counter[Choice] = Counter()
    count: Counter[Choice] = Counter()
    model.eval()
    for first in range(0, len(sequences), batch):
        chunk = sequences[first : first + batch]
        predicted = model(pad(chunk), use_cache=False).logits.argmax(-1)
        for row, sequence in enumerate(chunk):
            for i, choice in enumerate(sequence.choices):
                if choice is not None:
                    accepted = sequence.options.get(i, (sequence.ids[i],))
                    right[choice] += predicted[row, i - 1].item() in accepted
                    count[choice] += 1
    model.train()
    return {choice: Accuracy(right[choice], count[choice]) for choice in Choice if count[choice]}


def report(accuracies: dict[Choice, Accuracy]) -> str:
    """One line."""
    return " ".join(f"{choice.value} {a.share:.3f}" for choice, a in accuracies.items())
