"""Help of the verb study."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft study: {what}

usage: lightning_neft study --config FILE_OR_RECIPE --alphas LIST [--seeds INT] [--KEY VALUE]...
       lightning_neft study --config FILE_OR_RECIPE --search LOW,HIGH [--trials INT] [--seeds INT] [--KEY VALUE]...

Each alpha is trained with each seed. The arms of one seed see the same data in the same order from the same weights
with the same dropout: they differ in the noise alone, and are compared with alpha 0. The same command goes on with a
study that was stopped or killed; on several terminals or machines, with the same folder and storage, it is another
worker.

  --config FILE            a config as for fit, with the same options
  --alphas LIST            such as 0,5,10,15; the 0 is what the others are compared with
  --search LOW,HIGH        look for the best alpha between two numbers instead
  --trials INT             alphas that a search tries (10), besides 0
  --sampler NAME           how a search chooses them: tpe or gp (tpe)
  --seeds INT              how many seeds, from 0 on (3)
  --out FOLDER             folder of the study (runs/study-NAME)
  --storage URL            database that workers share, such as postgresql://user@host/name; SQLite in the folder by
                           default
  --pruner NAME            stop arms whose held-out loss is hopeless: none, median, hyperband or halving (none)
  --grace SECONDS          take over the arms of a worker that was not heard of for so long (60)
  --answers INT            answers to held-out prompts for each arm (20); 0: none
  --max-new-tokens INT     the most tokens of an answer (256)
  --memorization INT       answers to training prompts, compared with the references (0)
  --retry                  run the arms again that failed
  --json                   the result as one JSON object on the standard output, nothing else

exit code: 0 all arms ended well, 1 one failed, 2 something to put right first, 130 or 143 stopped by a signal

examples
  lightning_neft study --config quickstart --alphas 0,5,15 --seeds 2
  lightning_neft study --config quickstart --alphas 0,0.5,1 --neftune.scale relative --out runs/relative
  lightning_neft study --config quickstart --search 1,20 --trials 8 --seeds 2

  lightning_neft study --help-all        all options of the arms"""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
